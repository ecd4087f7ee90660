package api

// Limits on what is sent, in bytes.
const (
	// MaxBody is the most that the body of a request may hold.
	MaxBody = 64 << 10
	// MaxResponse is the most that the body of a response may hold: a message, its answer and its acknowledgement.
	MaxResponse = 128 << 10
	// MaxMessage is the most that one terminal message may hold before base64.
	MaxMessage = 16 << 10
	// MaxBatch is how many messages one batch may hold.
	MaxBatch = 1000
	// MaxBatchBody and MaxBatchResponse are MaxBody and MaxResponse of a batch.
	MaxBatchBody     = 8 << 20
	MaxBatchResponse = 64 << 20
	// maxName bounds key references, results and formats.
	maxName = 128
)

// The paths of the endpoints.
const (
	PathTransactions = "/transactions"        // POST TransactionRequest -> TransactionResponse
	PathAnswer       = "/transactions/answer" // POST AnswerRequest -> AnswerResponse
	PathBatch        = "/transactions/batch"  // POST BatchRequest -> BatchResponse
	PathTerminals    = "/terminals/"          // GET PathTerminals + id + PathCounters -> CountersResponse
	PathCounters     = "/counters"
)

// TransactionRequest asks to verify, decrypt and translate one message of a terminal.
type TransactionRequest struct {
	// Message is the message byte for byte as the terminal sent it, 1 to MaxMessage bytes. In JSON: base64.
	Message []byte `json:"Message"`
	// OutgoingPINKey names the zone key for a translated PIN, such as "alias/zone-1". Empty: the key set's only one.
	OutgoingPINKey string `json:"OutgoingPINKey,omitzero"`
	// OutgoingPINFormat is "ISO_FORMAT_0" or "ISO_FORMAT_4". Empty: the format of the incoming block.
	OutgoingPINFormat string `json:"OutgoingPINFormat,omitzero"`
}

// BatchRequest asks for what TransactionRequest does, for many messages at once. They are in no order: each is answered as if it
// had come by itself, at the same time as the others.
type BatchRequest struct {
	// Transactions are 1 to MaxBatch messages. More than MaxBatchBody bytes of JSON are refused.
	Transactions []TransactionRequest `json:"Transactions"`
}

// Result is the host's decision on a transaction.
type Result string

// The results that a host may record.
const (
	Approved Result = "APPROVED"
	Declined Result = "DECLINED"
)

// AnswerRequest records the host's decision on a message, once.
type AnswerRequest struct {
	// RequestDigest is the RequestDigest of the TransactionResponse: 64 lower-case hexadecimal digits.
	RequestDigest string `json:"RequestDigest"`
	// Result is Approved or Declined.
	Result Result `json:"Result"`
	// Body is handed to the terminal inside the acknowledgement, unread, at most MaxMessage bytes. In JSON: base64.
	Body []byte `json:"Body,omitempty"`
}

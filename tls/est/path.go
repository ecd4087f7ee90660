package est

// Paths of RFC 7030, 3.2.2, and of the label under which terminals enrol their agreement keys.
const (
	PathPrefix     = "/.well-known/est/"
	PathCACerts    = PathPrefix + "cacerts"
	PathAttributes = PathPrefix + "csrattrs"
	PathEnroll     = PathPrefix + "simpleenroll"
	PathReenroll   = PathPrefix + "simplereenroll"

	LabelAgreement       = "agreement"
	PathAgreementCACerts = PathPrefix + LabelAgreement + "/cacerts"
	PathAgreementEnroll  = PathPrefix + LabelAgreement + "/simpleenroll"
)

// Media types of bodies, all of which are base64 and say so in the header Content-Transfer-Encoding, whose value is
// TransferEncoding (RFC 7030, 3.2.4 and 4).
const (
	TypeCerts        = "application/pkcs7-mime; smime-type=certs-only"
	TypeRequest      = "application/pkcs10"
	TypeAttributes   = "application/csrattrs"
	TransferEncoding = "base64"
)

package keydist

// What tests look at from outside.
var (
	EncodeCertificates = encodeCertificates
	ParseCertificates  = parseCertificates
	NextKeyID          = nextKeyID
)

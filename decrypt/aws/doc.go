// Package aws is a face of the decryption service in the words of the AWS Payment Cryptography data plane: its paths, members,
// enumerations and exceptions, so that a client written for that service is one of this one.
//
// [Routes] puts the endpoints on a mux. They are thin: each reads its members strictly, asks one operation of package decrypt, and
// writes the answer or an exception. What this face knows and the service does not, or the reverse, is refused and never guessed:
// EMV, RSA, and a data key of a terminal without its direction. Signatures of AWS are not looked at; who calls is for the
// transport to prove, as on the native endpoints. docs/aws.md is what users read.
//
// Names follow the service model of version 2022-02-03. It does not speak for AWS, and nothing here was tried against the live
// service.
package aws

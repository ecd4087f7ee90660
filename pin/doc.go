// Package pin holds a cardholder's PIN in the blocks of ISO 9564-1.
//
// The usual path on a terminal: [ParsePAN] and [ParsePIN], then a format 0 block by [AppendFormat0] under a TDES key, or
// a format 4 block by [EncryptFormat4] under an AES key. On a host [DecodeFormat0] and [DecryptFormat4] give a [PIN]
// back, which can only be put into another block: there is no way to read its digits. [CheckTranslation] says which
// changes of format PCI PIN requirement 3-3 permits.
//
// Both types keep their digits in wipeable memory. A PIN never prints; a PAN prints its first six and last four digits.
//
// What this package does not protect against: a format 0 block is as strong as the key over it, and the block of a
// known PAN that is put next to another PAN of the same last twelve digits goes unnoticed. Format 4 ties the whole PAN to
// the block, and even there the check is statistical: about six wrong blocks in a hundred million look right.
//
// Follows ISO 9564-1:2017, 9.3, and PCI PIN Security 3.1, requirement 3-3. Formats 1, 2 and 3 are known by name and
// refused with [ErrFormat].
package pin

// Package pin holds a cardholder's PIN in the blocks of ISO 9564-1.
//
// The usual path on a terminal: [ParsePAN] and [ParsePIN], then [Format.Encrypt], with a TDES cipher for formats 0, 1 and 3
// and an AES cipher for format 4. On a host [Format.Decrypt] gives a [PIN] back, which can only be put into another block:
// there is no way to read its digits. [CheckTranslation] says which changes of format PCI PIN requirement 3-3 permits, and
// [Translate] does one. Format 2 is for a chip card, and is made and read in the clear only: [Format.Append], [Format.Decode].
//
// Both types keep their digits in wipeable memory. A PIN never prints; a PAN prints its first six and last four digits.
// Making a block and reading one into a PIN that has its memory ([NewPIN]) allocate nothing, and no branch or index of either
// depends on a digit of the PIN or on their number; only whether a block is good can be seen from outside.
//
// What this package does not protect against: a block of format 0 or 3 is as strong as the key over it, and the block of a
// known PAN that is put next to another PAN of the same last twelve digits, or of one that differs only where the PIN stands,
// goes unnoticed. Format 1 is tied to no PAN at all. Format 4 ties the PAN to the block, and even there the check is
// statistical: about six wrong blocks in a hundred million look right. The short PAN field of format 4 leaves the check digit
// and the digits before the last thirteen out.
//
// Follows ISO 9564-1:2017, 9.3 and 9.4, and PCI PIN Security 3.1, requirement 3-3.
package pin

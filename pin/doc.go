// Package pin holds a cardholder's PIN in the blocks of ISO 9564-1.
//
// The usual path on a terminal: [ParsePAN] and [ParsePIN], then [Format.Encrypt], with a TDES cipher for formats 0, 1 and 3
// and an AES cipher for format 4. On a host [Translate] moves a PIN from one block to another. [CheckTranslation] says which
// changes of format PCI PIN requirement 3-3 permits. Format 2 is for a chip card, and is made and read in the clear only:
// [Format.Append], [Format.Decode].
//
// Who typed a PIN and who got it in a block are two types. A [PIN] is the terminal's, and goes into any block, in the clear
// too. What [Format.Decrypt] and [Format.Decode] read is an [Opened]: it goes into an enciphered block of a format and a PAN that
// the requirement permits after its own, which it remembers, and nowhere else. Nothing makes a PIN of it.
//
// All types keep their digits in wipeable memory. A PIN never prints; a PAN prints its first six and last four digits.
// Making a block and reading one into an Opened that has its memory ([NewOpened]) allocate nothing, and no branch or index of
// either depends on a digit of the PIN or on their number; only whether a block is good can be seen from outside.
//
// What this package does not protect against: a host that holds the key of the block it makes, or passes off something else as
// a cipher, gets the PIN by it, as the next zone does. A block of format 0 or 3 is as strong as the key over it, and the block of a
// known PAN that is put next to another PAN of the same last twelve digits, or of one that differs only where the PIN stands,
// goes unnoticed. Format 1 is tied to no PAN at all. Format 4 ties the PAN to the block, and even there the check is
// statistical: about six wrong blocks in a hundred million look right. The short PAN field of format 4 leaves the check digit
// and the digits before the last thirteen out.
//
// Follows ISO 9564-1:2017, 9.3 and 9.4, and PCI PIN Security 3.1, requirement 3-3.
package pin

// Package ctgrind tells Valgrind which bytes of a test program are secret.
//
// A secret byte is given to Valgrind as an undefined one. Its memory checker then follows what is computed from that byte
// and reports each jump and each address that depends on it: what an attacker could learn from time or from the cache. A
// program that is not built with the tag valgrind, or does not run under it, marks nothing.
//
// No product code imports this package; secret.Public stands where a verdict becomes public.
package ctgrind

// Command heavy is a program that has grown too much: what the check of sizes must refuse.
package main

import (
	"crypto/tls"
	"os"
)

func main() {
	if _, err := tls.Dial("tcp", os.Args[1], nil); err != nil {
		os.Exit(1)
	}
}

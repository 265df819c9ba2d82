// A check of checkpoints by somebody else's code: golang.org/x/mod/sumdb/note knows nothing of HBC.
//
//	note KEYS MEMBERS < CHECKPOINT
//
// KEYS is a file with one verifier key per line, MEMBERS how many members there are. It prints the signers whose
// signatures fit, and ends with 0 if they are more than two thirds of the members, with 1 if they are too few, and with 2
// if the note is none at all.
package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

func refuse(reason any) {
	fmt.Fprintln(os.Stderr, reason)
	os.Exit(2)
}

func main() {
	if len(os.Args) != 3 {
		refuse("note KEYS MEMBERS < CHECKPOINT")
	}
	keys, err := os.ReadFile(os.Args[1])
	if err != nil {
		refuse(err)
	}
	members, err := strconv.Atoi(os.Args[2])
	if err != nil {
		refuse(err)
	}
	var verifiers []note.Verifier
	for _, line := range strings.Fields(string(keys)) {
		verifier, err := note.NewVerifier(line)
		if err != nil {
			refuse(err)
		}
		verifiers = append(verifiers, verifier)
	}
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		refuse(err)
	}
	opened, err := note.Open(text, note.VerifierList(verifiers...))
	if err != nil {
		refuse(err)
	}
	for _, signature := range opened.Sigs {
		fmt.Printf("%s %08x\n", signature.Name, signature.Hash)
	}
	if 3*len(opened.Sigs) <= 2*members {
		fmt.Fprintf(os.Stderr, "%d of %d signed\n", len(opened.Sigs), members)
		os.Exit(1)
	}
}

// A check of checkpoints and inclusion proofs by somebody else's code: golang.org/x/mod/sumdb and filippo.io/torchwood know
// nothing of HBC.
//
//	note KEYS MEMBERS < CHECKPOINT
//	note KEYS MEMBERS TRANSACTION < TLOG-PROOF
//
// KEYS is a file with one verifier key per line, MEMBERS how many members there are, TRANSACTION a file with a leaf's data.
// It prints the signers whose signatures fit, and ends with 0 if they are more than two thirds of the members (and the log
// holds the transaction), with 1 if they are too few or it does not, and with 2 if the input is no note or proof at all.
package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func end(code int, reason any) {
	fmt.Fprintln(os.Stderr, reason)
	os.Exit(code)
}

func must[T any](value T, err error) T {
	if err != nil {
		end(2, err)
	}
	return value
}

func hash(text string) (h tlog.Hash, err error) {
	bytes, err := base64.StdEncoding.DecodeString(text)
	if err == nil && len(bytes) != tlog.HashSize {
		err = errors.New("not a hash")
	}
	copy(h[:], bytes)
	return h, err
}

// A proof taken apart: the leaf's place, the path, and the signed note.
func taken(text string) (index int64, path tlog.RecordProof, checkpoint string) {
	head, checkpoint, found := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	if !found || len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" || !strings.HasPrefix(lines[1], "index ") {
		end(2, "not a tlog-proof")
	}
	for _, line := range lines[2:] {
		path = append(path, must(hash(line)))
	}
	return must(strconv.ParseInt(lines[1][len("index "):], 10, 64)), path, checkpoint
}

func main() {
	if len(os.Args) < 3 || len(os.Args) > 4 {
		end(2, "note KEYS MEMBERS [TRANSACTION]")
	}
	keys, members := must(os.ReadFile(os.Args[1])), must(strconv.Atoi(os.Args[2]))
	var verifiers []note.Verifier
	for _, line := range strings.Fields(string(keys)) {
		verifiers = append(verifiers, must(note.NewVerifier(line)))
	}
	text := string(must(io.ReadAll(os.Stdin)))
	var index int64
	var path tlog.RecordProof
	if len(os.Args) == 4 {
		index, path, text = taken(text)
	}
	opened := must(note.Open([]byte(text), note.VerifierList(verifiers...)))
	for _, signature := range opened.Sigs {
		fmt.Printf("%s %08x\n", signature.Name, signature.Hash)
	}
	if 3*len(opened.Sigs) <= 2*members {
		end(1, fmt.Sprintf("%d of %d signed", len(opened.Sigs), members))
	}
	checkpoint := must(torchwood.ParseCheckpoint(opened.Text))
	if len(os.Args) == 4 {
		leaf := tlog.RecordHash(must(os.ReadFile(os.Args[3])))
		if err := tlog.CheckRecord(path, checkpoint.N, checkpoint.Hash, index, leaf); err != nil {
			end(1, err)
		}
	}
}

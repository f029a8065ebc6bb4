// Command torchwood is what the tests need of torchwood's packages, beside its own commands.
//
//	torchwood agent -socket PATH -key KEY.pem
//	torchwood add-log -db PATH -vkey VKEY_FILE
//	torchwood verify-proof -policy POLICY -entry FILE PROOF
//
// agent answers as an ssh-agent with one Ed25519 key, from which litewitness takes its key, until it is killed.
// add-log makes a log known to a running litewitness, as witnessctl does, which needs packages that not every proxy has.
// verify-proof checks a C2SP tlog-proof of the entry whose bytes are in FILE; it exits with 0 only when torchwood
// finds it good, with 1 when it does not, with 2 on wrong usage.
package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"

	"filippo.io/torchwood"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

func serveAgent(socket, keyFile string) error {
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return errors.New("no PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return err
	}
	keyring := agent.NewKeyring()
	if err := keyring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go agent.ServeAgent(keyring, connection)
	}
}

func addLog(db, vkeyFile string) error {
	text, err := os.ReadFile(vkeyFile)
	if err != nil {
		return err
	}
	vkey := strings.TrimSpace(string(text))
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	connection, err := sqlite.OpenConn(db, sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	defer connection.Close()
	empty, err := tlog.TreeHash(0, nil)
	if err != nil {
		return err
	}
	log := &sqlitex.ExecOptions{Args: []any{verifier.Name(), empty.String()}}
	if err := sqlitex.Execute(connection, "INSERT INTO log (origin, tree_size, tree_hash) VALUES (?, 0, ?)", log); err != nil {
		return err
	}
	key := &sqlitex.ExecOptions{Args: []any{verifier.Name(), vkey}}
	return sqlitex.Execute(connection, "INSERT INTO key (origin, key) VALUES (?, ?)", key)
}

func verifyProof(policyFile, entryFile, proofFile string) error {
	text, err := os.ReadFile(policyFile)
	if err != nil {
		return err
	}
	policy, err := torchwood.ParsePolicy(text)
	if err != nil {
		return err
	}
	entry, err := os.ReadFile(entryFile)
	if err != nil {
		return err
	}
	proof, err := os.ReadFile(proofFile)
	if err != nil {
		return err
	}
	return torchwood.VerifyProof(policy, tlog.RecordHash(entry), proof)
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: torchwood agent -socket PATH -key KEY.pem")
	fmt.Fprintln(os.Stderr, "       torchwood add-log -db PATH -vkey VKEY_FILE")
	fmt.Fprintln(os.Stderr, "       torchwood verify-proof -policy POLICY -entry FILE PROOF")
	os.Exit(2)
}

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	socket := flags.String("socket", "", "where the agent listens")
	key := flags.String("key", "", "Ed25519 private key, PKCS #8")
	db := flags.String("db", "", "SQLite database of litewitness")
	vkey := flags.String("vkey", "", "file with a log's verifier key")
	policy := flags.String("policy", "", "policy file")
	entry := flags.String("entry", "", "bytes of the entry")
	flags.Parse(os.Args[2:])
	var err error
	switch {
	case os.Args[1] == "agent" && *socket != "" && *key != "" && flags.NArg() == 0:
		err = serveAgent(*socket, *key)
	case os.Args[1] == "add-log" && *db != "" && *vkey != "" && flags.NArg() == 0:
		err = addLog(*db, *vkey)
	case os.Args[1] == "verify-proof" && *policy != "" && *entry != "" && flags.NArg() == 1:
		err = verifyProof(*policy, *entry, flags.Arg(0))
	default:
		usage()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ok")
}

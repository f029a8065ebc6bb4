// Command fsck checks a log over HTTP with Tessera's fsck: entries, hash tiles and the signed root must agree.
//
//	fsck -url http://127.0.0.1:7181/log/acme/0/1 -vkey acme-1.vkey [-authorization FILE]
//
// It exits with 0 only when the whole log was checked and is good, with 1 when it is not, with 2 on wrong usage.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"
)

// Leaf hashes of an entry bundle, RFC 6962, section 2.1.
func leafHashes(bundle []byte) ([][]byte, error) {
	var entries api.EntryBundle
	if err := entries.UnmarshalText(bundle); err != nil {
		return nil, err
	}
	hashes := make([][]byte, 0, len(entries.Entries))
	for _, entry := range entries.Entries {
		hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(entry))
	}
	return hashes, nil
}

func check(logURL, vkeyFile, authorizationFile string) error {
	vkey, err := os.ReadFile(vkeyFile)
	if err != nil {
		return err
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(vkey)))
	if err != nil {
		return fmt.Errorf("%s: %w", vkeyFile, err)
	}
	root, err := url.Parse(logURL)
	if err != nil {
		return err
	}
	fetcher, err := client.NewHTTPFetcher(root, &http.Client{Timeout: 30 * time.Second})
	if err != nil {
		return err
	}
	if authorizationFile != "" {
		value, err := os.ReadFile(authorizationFile)
		if err != nil {
			return err
		}
		fetcher.SetAuthorizationHeader(strings.TrimSpace(string(value)))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	return fsck.New(verifier.Name(), verifier, fetcher, leafHashes, fsck.Opts{N: 2}).Check(ctx)
}

func main() {
	logURL := flag.String("url", "", "where the log is served, without /checkpoint")
	vkeyFile := flag.String("vkey", "", "file with the log's C2SP verifier key; its name is the origin")
	authorizationFile := flag.String("authorization", "", "file with the value of the header Authorization")
	flag.Parse()
	if *logURL == "" || *vkeyFile == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := check(*logURL, *vkeyFile, *authorizationFile); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("the log is good")
}

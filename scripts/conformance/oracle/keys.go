package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/url"
	"time"
)

// material is made anew for each run, so that no private key lies in the repository. All of it is PEM.
type material struct {
	// Keys by kind: rsa, p256, p384, p521, ed25519; Private as PKCS #8, Legacy as PKCS #1 or SEC 1.
	Private      map[string]string `json:"private"`
	Legacy       map[string]string `json:"legacy"`
	Public       map[string]string `json:"public"`
	Certificates map[string]string `json:"certificates"`
	Requests     map[string]string `json:"requests"`
	// Chains are leaf-last: root, intermediate, leaf.
	Root         string `json:"root"`
	Intermediate string `json:"intermediate"`
	Leaf         string `json:"leaf"`
	Expired      string `json:"expired"`
	LeafKey      string `json:"leafKey"`
}

var (
	validFrom  = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	validUntil = time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
)

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func writeKeys(out io.Writer) error {
	return recovered(func() error { return json.NewEncoder(out).Encode(makeMaterial()) })
}

func makeMaterial() material {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	keys := map[string]crypto.Signer{
		"rsa":     must(rsa.GenerateKey(rand.Reader, 2048)),
		"p256":    must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		"p384":    must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
		"p521":    must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)),
		"ed25519": ed,
	}
	made := material{
		Private:      map[string]string{},
		Legacy:       map[string]string{},
		Public:       map[string]string{},
		Certificates: map[string]string{},
		Requests:     map[string]string{},
	}
	serial := int64(1000)
	for name, key := range keys {
		serial++
		made.Private[name] = block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(key)))
		made.Public[name] = block("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(key.Public())))
		switch key := key.(type) {
		case *rsa.PrivateKey:
			made.Legacy[name] = block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
		case *ecdsa.PrivateKey:
			made.Legacy[name] = block("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(key)))
		}
		template := richTemplate(serial, name)
		made.Certificates[name] = block("CERTIFICATE",
			must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)))
		made.Requests[name] = block("CERTIFICATE REQUEST", must(x509.CreateCertificateRequest(rand.Reader,
			&x509.CertificateRequest{
				Subject:        template.Subject,
				DNSNames:       template.DNSNames,
				EmailAddresses: template.EmailAddresses,
				IPAddresses:    template.IPAddresses,
				URIs:           template.URIs,
			}, key)))
	}
	addChain(&made, keys)
	return made
}

func richTemplate(serial int64, name string) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber: new(big.Int).Lsh(big.NewInt(serial), 80),
		Subject: pkix.Name{
			Country:            []string{"CH", "DE"},
			Organization:       []string{"Edict Probes"},
			OrganizationalUnit: []string{"Zürich"},
			Locality:           []string{"Bern"},
			SerialNumber:       "7",
			CommonName:         name + ".example.com",
		},
		NotBefore:             validFrom,
		NotAfter:              validUntil,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageCodeSigning},
		BasicConstraintsValid: true,
		DNSNames:              []string{name + ".example.com", "*.example.org"},
		EmailAddresses:        []string{"someone@example.com"},
		IPAddresses:           []net.IP{net.ParseIP("192.0.2.1"), net.ParseIP("2001:db8::1")},
		URIs:                  []*url.URL{must(url.Parse("spiffe://example.com/" + name))},
		OCSPServer:            []string{"http://ocsp.example.com"},
		CRLDistributionPoints: []string{"http://crl.example.com/a.crl"},
		SubjectKeyId:          []byte{1, 2, 3, 4},
	}
	if name == "p256" {
		template.IsCA = true
		template.MaxPathLen = 2
		template.PermittedDNSDomains = []string{".example.com"}
	}
	return template
}

func addChain(made *material, keys map[string]crypto.Signer) {
	authority := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber:          big.NewInt(serial),
			Subject:               pkix.Name{CommonName: name},
			NotBefore:             validFrom,
			NotAfter:              validUntil,
			KeyUsage:              x509.KeyUsageCertSign,
			BasicConstraintsValid: true,
			IsCA:                  true,
		}
	}
	root := authority(1, "Probe Root")
	intermediate := authority(2, "Probe Intermediate")
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(3),
		Subject:      pkix.Name{CommonName: "leaf.example.com"},
		NotBefore:    validFrom,
		NotAfter:     validUntil,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"leaf.example.com"},
	}
	expired := *leaf
	expired.NotAfter = time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC)
	sign := func(template, parent *x509.Certificate, key, parentKey string) string {
		return block("CERTIFICATE",
			must(x509.CreateCertificate(rand.Reader, template, parent, keys[key].Public(), keys[parentKey])))
	}
	made.Root = sign(root, root, "rsa", "rsa")
	made.Intermediate = sign(intermediate, root, "p256", "rsa")
	made.Leaf = sign(leaf, intermediate, "p384", "p256")
	made.Expired = sign(&expired, intermediate, "p384", "p256")
	made.LeafKey = made.Private["p384"]
}

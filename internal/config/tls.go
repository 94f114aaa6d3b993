package config

import (
	"errors"
	"fmt"
	"strings"
)

// TLS is the listener's certificate. Both files are read again when they change.
type TLS struct {
	// PEM file with the server's certificate first and the intermediate ones after it.
	Certificate string `yaml:"certificate"`
	// PEM file with its private key, with or without file: before it.
	Key string `yaml:"key"`
}

// scheme is that of the listener's URLs.
func (c *Config) scheme() string {
	if c.TLS != nil {
		return "https://"
	}
	return "http://"
}

func (c *Config) checkTLS() error {
	if c.TLS == nil {
		return nil
	}
	var errs []error
	if c.TLS.Certificate == "" {
		errs = append(errs, errors.New("tls: certificate is missing"))
	}
	if c.TLS.Key == "" || c.TLS.Key == "file:" {
		errs = append(errs, errors.New("tls: key is missing"))
	}
	if scheme, _, ok := strings.Cut(strings.TrimPrefix(c.TLS.Key, "file:"), "://"); ok {
		errs = append(errs, fmt.Errorf("tls: key: scheme %q is not one of a listener's key; want the path of a PEM file", scheme))
	}
	for _, u := range []struct{ key, value string }{{"url", c.URL}, {"replica_url", c.ReplicaURL}} {
		if strings.HasPrefix(u.value, "http://") {
			errs = append(errs, fmt.Errorf("%s %q is not https, which is all that a listener with tls speaks", u.key, u.value))
		}
	}
	return errors.Join(errs...)
}

// resolveTLS makes the paths absolute.
func (c *Config) resolveTLS() {
	if c.TLS != nil {
		c.TLS.Certificate = resolve(c.Dir, c.TLS.Certificate)
		c.TLS.Key = resolve(c.Dir, strings.TrimPrefix(c.TLS.Key, "file:"))
	}
}

package alert

// Sign returns the signature header for a secret in its text form.
func Sign(secret, id, timestamp, body string) string {
	key, ok := parseSecret(secret)
	if !ok {
		return "bad secret"
	}
	return sign(key, id, timestamp, []byte(body))
}

// CheckAddress is checkAddress.
var CheckAddress = checkAddress

package trial

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"strings"
)

// S3 returns the Dialect of S3 for the objects below prefix in a bucket that is addressed in path
// style.
func S3(bucket, prefix string) Dialect {
	root := "/" + bucket + "/" + prefix + "/"
	return Dialect{
		What: func(r *http.Request, body []byte) (Verb, []string, []byte) {
			key, isObject := strings.CutPrefix(r.URL.Path, root)
			switch {
			case r.Method == http.MethodPost:
				return Delete, deletedKeys(body, prefix+"/"), nil
			case !isObject:
				return List, nil, nil
			case r.Method == http.MethodPut:
				return Put, []string{key}, body
			case r.Method == http.MethodDelete:
				return Delete, []string{key}, nil
			}
			return Get, []string{key}, nil
		},
		Refusal: func(status int) (string, string) {
			return "application/xml", fmt.Sprintf("<Error><Code>%s</Code><Message>injected</Message></Error>", s3Codes[status])
		},
	}
}

var s3Codes = map[int]string{
	http.StatusBadRequest: "RequestTimeout", http.StatusForbidden: "AccessDenied", http.StatusConflict: "ConditionalRequestConflict",
	http.StatusPreconditionFailed: "PreconditionFailed", http.StatusTooManyRequests: "TooManyRequests",
	http.StatusServiceUnavailable: "SlowDown",
}

// deletedKeys returns the keys below prefix that a DeleteObjects request names.
func deletedKeys(body []byte, prefix string) []string {
	var request struct {
		Objects []struct{ Key string } `xml:"Object"`
	}
	if err := xml.Unmarshal(body, &request); err != nil {
		panic(fmt.Sprintf("trial: parsing a request to delete %q: %v", body, err)) // the test would judge too little
	}
	var keys []string
	for _, o := range request.Objects {
		keys = append(keys, strings.TrimPrefix(o.Key, prefix))
	}
	return keys
}

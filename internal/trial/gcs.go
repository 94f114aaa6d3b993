package trial

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
)

// GCS returns the Dialect of Google Cloud Storage's JSON API for the objects below prefix in a bucket.
func GCS(bucket, prefix string) Dialect {
	root, uploads := "/storage/v1/b/"+bucket+"/o", "/upload/storage/v1/b/"+bucket+"/o"
	return Dialect{
		What: func(r *http.Request, body []byte) (Verb, []string, []byte) {
			path := r.URL.EscapedPath()
			if path == uploads {
				return Put, []string{strings.TrimPrefix(r.URL.Query().Get("name"), prefix+"/")}, uploaded(r, body)
			}
			name, err := url.PathUnescape(strings.TrimPrefix(path, root))
			key, isObject := strings.CutPrefix(name, "/"+prefix+"/")
			switch {
			case err != nil || !isObject:
				return List, nil, nil
			case r.Method == http.MethodDelete:
				return Delete, []string{key}, nil
			}
			return Get, []string{key}, nil
		},
		Refusal: func(status int) (string, string) {
			return "application/json", fmt.Sprintf(`{"error":{"code":%d,"message":"injected","errors":[{"reason":"injected"}]}}`, status)
		},
	}
}

// uploaded returns the data in the body of a multipart upload: the part after the object's description.
func uploaded(r *http.Request, body []byte) []byte {
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	parts := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	var data []byte
	for range 2 {
		var part *multipart.Part
		if err == nil {
			part, err = parts.NextPart()
		}
		if err == nil {
			data, err = io.ReadAll(part)
		}
	}
	if err != nil {
		panic(fmt.Sprintf("trial: parsing an upload of %d bytes: %v", len(body), err)) // the test would judge too little
	}
	return data
}

// Forward is a store elsewhere, at endpoint.
func Forward(endpoint string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, err := http.NewRequestWithContext(r.Context(), r.Method, endpoint+r.URL.RequestURI(), r.Body)
		if err != nil {
			panic(fmt.Sprintf("trial: forwarding %s %s: %v", r.Method, r.URL, err))
		}
		out.Header, out.ContentLength = r.Header, r.ContentLength
		res, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			panic(fmt.Sprintf("trial: forwarding %s %s: %v", r.Method, r.URL, err)) // whether it was applied nobody knows
		}
		defer res.Body.Close()
		for name, values := range res.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(res.StatusCode)
		_, _ = io.Copy(w, res.Body) // the client checks
	})
}

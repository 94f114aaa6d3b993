package e2e_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheWitnessPageShowsWhatIsWrong looks at a witness's page in a browser: a log that is cosigned, one
// that is disabled, a list, and the alarm that it has raised.
func TestTheWitnessPageShowsWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	logVKey, thief := generateKey(t, dir, "log.pem", "log.example.org"), generateKey(t, dir, "thief.pem", "thief.example.org")
	list := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("logs/v0\nvkey " + thief + "\nqpd 24\ncontact thief\nvkey " + thief + "\norigin log.example.org\nqpd 24\ncontact thief\n"))
	}))
	defer list.Close()
	logs := writeFile(t, dir, "logs.txt", "logs/v0\nvkey "+logVKey+"\nqpd 86400\ncontact ops@example.org\n")
	w := newWitness(t, dir, "w.example.org", logs)
	w.stop(t)
	w.args = append(w.args, "--list", list.URL)
	w.start(t)
	must(t, dir, "tallywood-witness", "logs", "disable", "--dir", filepath.Join(dir, w.name), "--origin", "thief.example.org")
	writeFile(t, dir, "policy.txt", "log "+logVKey+"\nwitness w "+w.vkey+" "+w.url+"\nquorum w\n")
	log := serveLog(t, writeFile(t, dir, "config.yaml", "address: 127.0.0.1:0\nstorage: file:./objects\nlogs:\n"+
		"  - {name: signatures, kind: rekor, origin: log.example.org, key: file:log.pem, policy: policy.txt}\n"))
	addEntry(t, log.url)
	eventually(t, "alarm", func() bool { return strings.Contains(get(t, w.url+"/status.json", 200), `"disabled": true`) })
	for _, scripts := range []bool{true, false} {
		text, shot := browse(t, w.url+"/", scripts)
		for _, want := range []string{"Something needs its operator", "key log.example.org: A list names another key for this log: thief.example.org+",
			"w.example.org+", "86400", "file logs.txt", "thief.example.org disabled", "Lists of logs", list.URL, "c2sp.org/tlog-witness"} {
			if !strings.Contains(text, want) {
				t.Errorf("with scripts %v the page does not say %q:\n%s", scripts, want, text)
			}
		}
		if dir := os.Getenv("TALLYWOOD_SCREENSHOTS"); dir != "" {
			if err := os.WriteFile(filepath.Join(dir, "witness.png"), shot, 0o644); err != nil {
				t.Error(err)
			}
		}
	}
}

package e2e_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// browse opens url in Debian's Chromium, with or without JavaScript, and returns the text that a
// person sees and a screenshot.
func browse(t *testing.T, url string, scripts bool) (string, []byte) {
	t.Helper()
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.WindowSize(1100, 1500), chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(patience))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), opts...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, patience)
	defer cancel()
	css := chromedp.CSS("body")
	err := chromedp.Do(ctx, chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !scripts})
		return err
	}), chromedp.Navigate(url), chromedp.WaitVisible(css))
	if err != nil {
		t.Fatalf("browsing %s: %v", url, err)
	}
	text, err := chromedp.Run(ctx, chromedp.Text(css))
	if err != nil {
		t.Fatalf("reading %s: %v", url, err)
	}
	shot, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatalf("drawing %s: %v", url, err)
	}
	return text, shot
}

func TestThePageShowsWhatIsGoingOn(t *testing.T) {
	work := t.TempDir()
	s := up(t, filepath.Join(work, "data"), "--watch", "alice@example.com")
	file := writeFile(t, work, "f", "x")
	must(t, work, "tallywood", "sign", file, "--yes", "--trust", s.client, "--identity-token", s.token(t, "alice@example.com"))
	eventually(t, "alert", func() bool {
		data, err := os.ReadFile(filepath.Join(s.dir, "events.jsonl"))
		return err == nil && strings.Count(string(data), "\n") >= 2
	})
	eventually(t, "page that has all of it", func() bool { // its parts learn of it one after the other
		page := get(t, s.url+"/", 200)
		return strings.Contains(page, "Everything is running") && strings.Contains(page, "certificate for alice@example.com") && strings.Contains(page, "signed by alice@example.com")
	})
	for _, scripts := range []bool{true, false} {
		text, shot := browse(t, s.url+"/", scripts)
		for _, want := range []string{"Everything is running", "not independent", "log.localhost", "ct.localhost", "1 entry",
			"2 of 3 must cosign", "witness-1.localhost", "witness-3.localhost", "signed by alice@example.com",
			"certificate for alice@example.com", "Last alerts", "info", "Am I fine?"} {
			if !strings.Contains(text, want) {
				t.Errorf("with scripts %v the page does not say %q:\n%s", scripts, want, text)
			}
		}
		if len(shot) < 10_000 {
			t.Errorf("the screenshot has %d bytes", len(shot))
		}
		if dir := os.Getenv("TALLYWOOD_SCREENSHOTS"); dir != "" {
			if err := os.WriteFile(filepath.Join(dir, "page.png"), shot, 0o644); err != nil {
				t.Error(err)
			}
		}
	}
	// The monitor's own pages are beside it.
	eventually(t, "monitor's pages", func() bool {
		page := get(t, s.url+"/monitor/", 200)
		return strings.Contains(page, "1 signature and 1 certificate in 30 days") && strings.Contains(page, "Both logs are in order")
	})
	if text, _ := browse(t, s.url+"/monitor/", true); !strings.Contains(text, "All is well") || !strings.Contains(text, "Both logs are in order") {
		t.Errorf("the monitor's page says:\n%s", text)
	}
	// A witness has a page of its own, and a log is found at its own name.
	if text, _ := browse(t, s.url+"/witness/1/", false); !strings.Contains(text, "witness-1.localhost") {
		t.Errorf("the witness's page says:\n%s", text)
	}
	req, err := http.NewRequest(http.MethodGet, s.url+"/checkpoint", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "ct.localhost:443"
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if tree, err := io.ReadAll(resp.Body); err != nil || !strings.HasPrefix(string(tree), "ct.localhost\n1\n") {
		t.Errorf("at the host ct.localhost: %v\n%s", err, tree)
	}
}

package rekormonitor

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"tallywood/witness/policy"
)

// publicV1 is rekor-monitor's own default: a log that is no tlog-tiles log.
const publicV1 = "https://rekor.sigstore.dev"

// logs returns the logs, one a line.
func (i *importer) logs() string {
	l := i.o.Logs
	if strings.TrimRight(l.URL, "/") == publicV1 {
		i.refuse("--url %s is a Rekor v1 log, which cannot be followed: only logs of tiles can; leave it out to follow the v2 logs of the trusted root", l.URL)
		return ""
	}
	if i.single {
		return i.oneLog()
	}
	if l.URL != "" {
		i.warn("--url %s: all logs of the trusted root are followed, that one with them if it is there", l.URL)
	} else {
		i.warn("rekor-monitor's own default is %s, a Rekor v1 log; ours follows the v2 logs of the trusted root", publicV1)
	}
	i.start()
	source := fmt.Sprintf("tuf: {url: %s, root: %s}", quoted(l.TUFURL), quoted(i.o.Path(l.TUFRoot)))
	if l.TrustedRoot != "" {
		source = "trusted_root: " + quoted(i.o.Path(l.TrustedRoot))
	}
	kind := "kind: rekor, "
	if len(i.peer.CTShards) > 0 {
		kind = ""
		i.warn("ctShards: the certificate logs of the trusted root are followed, by their keys there")
	}
	policy := "none"
	if l.Policy != "" && l.Policy != "none" {
		policy = quoted(i.o.Path(l.Policy))
	} else {
		i.warn("rekor-monitor looks at no witnesses, and neither does this: \"policy:\" names a tlog-policy that does")
	}
	return fmt.Sprintf("  - {%s%s%s, policy: %s}\n", kind, source, i.shards(), policy)
}

// shards returns where the logs of ctShards are read.
func (i *importer) shards() string {
	var urls []string
	for _, s := range i.peer.CTShards {
		at, origin, named := strings.Cut(s, ",")
		if !isURL(at) {
			i.refuse("ctShards: %q is not an http(s) URL", at)
			continue
		}
		if !named || origin == "" {
			// The origin of a static-ct log is its URL without scheme.
			_, origin, _ = strings.Cut(strings.TrimRight(at, "/"), "://")
		}
		urls = append(urls, quoted(origin)+": "+quoted(at))
	}
	if len(urls) == 0 {
		return ""
	}
	return ", urls: {" + strings.Join(urls, ", ") + "}"
}

func isURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

// oneLog returns the one log that is named by its key.
func (i *importer) oneLog() string {
	l := i.o.Logs
	key, err := policy.ParseVKey(l.VKey)
	if err != nil {
		i.refuse("--vkey: %w", err)
		return ""
	}
	if l.URL == "" {
		i.refuse("--vkey needs --url: where the log is read")
	} else if !isURL(l.URL) {
		i.refuse("--url: %q is not an http(s) URL", l.URL)
	}
	if l.Policy == "" {
		i.refuse("--vkey needs --policy: a tlog-policy, or the word none for a log without witnesses")
	}
	kind := "rekor"
	if key.Alg() == policy.AlgRFC6962 {
		kind = "ct"
	}
	if len(i.peer.CTShards) > 0 {
		i.refuse("ctShards: with --vkey one log is followed; import them with --trusted-root or --tuf-repository")
	}
	start := ""
	if n := i.start(); n > 0 {
		start = fmt.Sprintf(", start: %d", n)
	}
	path := l.Policy
	if path != "none" {
		path = quoted(i.o.Path(path))
	}
	return fmt.Sprintf("  - {origin: %s, kind: %s, url: %s, vkey: %s, policy: %s%s}\n",
		quoted(key.Name()), kind, quoted(l.URL), quoted(l.VKey), path, start)
}

// start returns the first index to match.
func (i *importer) start() int64 {
	p := i.peer
	if p.EndIndex != nil {
		i.warn("endIndex %d: our monitor goes on to the end of the log", *p.EndIndex)
	}
	var first int64
	switch {
	case p.StartIndex != nil:
		first = max(0, *p.StartIndex+1) // it was the last index of the range before
	case len(i.o.State) > 0:
		size, err := lastSize(i.o.State)
		if err != nil {
			i.warn("its checkpoint file cannot be read, and our monitor begins with entry 0: %v", err)
			return 0
		}
		first = size
	default:
		i.warn("without a checkpoint of its own rekor-monitor began at the end of the log; ours begins with entry 0, and tells of old matches too. \"start: head\", with \"tallywood monitor init\", begins at the end")
		return 0
	}
	if !i.single {
		i.warn("index %d is of one log, and several are followed: our monitor begins with entry 0 of each. \"start: head\" or a time, with \"tallywood monitor init\", begins later", first)
		return 0
	}
	i.warn("our monitor begins with entry %d, the first that rekor-monitor has not matched", first)
	return first
}

// lastSize returns the size in the last line of a checkpoint file, in which \n stands for LF.
func lastSize(state []byte) (int64, error) {
	lines := strings.Split(strings.TrimSpace(string(state)), "\n")
	fields := strings.Split(lines[len(lines)-1], `\n`)
	if len(fields) < 3 {
		return 0, errors.New("its last line is no checkpoint")
	}
	return policy.ParseSize(fields[1])
}

// authorities returns the file with the authorities: what rekor-monitor passed over in silence
// without them is an alert now.
func (i *importer) authorities() string {
	roots, intermediates := i.peer.CARootsFile, i.peer.CAIntermediatesFile
	if i.o.CARoots != "" {
		roots = i.o.CARoots
	}
	if i.o.CAIntermediate != "" {
		intermediates = i.o.CAIntermediate
	}
	var paths []string
	for _, path := range append([]string{roots, intermediates}, i.peer.TrustedCAs...) {
		if path != "" {
			paths = append(paths, path)
		}
	}
	if len(paths) == 0 {
		return ""
	}
	if intermediates != "" && roots == "" {
		i.refuse("caIntermediatesFile is set, and caRootsFile is not")
	}
	i.warn("certificates that end at none of the authorities were passed over by rekor-monitor; for the identities they are alerts now (id.unknown-ca)")
	var all []byte
	for _, path := range paths {
		data, err := i.o.ReadFile(path)
		if err != nil {
			i.refuse("reading authorities: %w", err)
			continue
		}
		all = append(append(all, data...), '\n')
	}
	i.out.Files = append(i.out.Files, File{Name: "authorities.pem", Data: all})
	return "authorities.pem"
}

// unused says which keys mean nothing here.
func (i *importer) unused() {
	if i.peer.LogInfoFile != "" {
		i.warn("logInfoFile is left out: rekor-monitor does not read it either")
	}
	if i.peer.IdentityMetadataFile != "" {
		i.warn("identityMetadataFile is left out: our monitor keeps its position in its state")
	}
}

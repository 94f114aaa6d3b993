package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"

	"tallywood/internal/config"
	"tallywood/internal/stack"
)

func peerCommand() command {
	return command{name: "peer", args: "show URL | add URL --config FILE [--yes]",
		short: "witness another server's logs, and have it witness yours",
		long: `
Two servers are peers when each names the other under "peers" in its configuration: the witnesses of
each cosign the logs of the other. Each needs a witness of its own under "witnesses".

"peer show URL" asks the server at URL for the keys of its logs and of its witness, and prints the
line that a configuration needs to name it.

"peer add URL --config FILE" prints the same, asks whether the keys are those that the other
operator has told you (by mail, by telephone: not by that server), and puts the line into FILE,
where everything else stays as it is. --yes answers the question. From then on the keys in FILE
count: nothing that URL answers later changes them. A restart takes it on.

Until the other side has your line too, its witness refuses your logs, and adds to them are answered
503. "config check FILE" says what the peers of a configuration mean.`,
		run: peer}
}

func peer(ctx context.Context, t terminal, fs *flag.FlagSet, args []string) error {
	file := fs.String("config", "", "server configuration `FILE` to put the line into")
	yes := fs.Bool("yes", false, "the keys are those that the other operator has told you")
	operands, err := parse(fs, args, 2, 2)
	if err != nil {
		return err
	}
	verb, url := operands[0], strings.TrimRight(operands[1], "/")
	switch {
	case verb != "show" && verb != "add":
		return usagef("peer %s: want show or add", verb)
	case verb == "add" && *file == "":
		return hinted(exitUsage, errors.New("peer add needs --config"), "\"tallywood peer show URL\" prints the line without writing it")
	case verb == "show" && (*file != "" || *yes):
		return usagef("--config and --yes belong to \"peer add\"")
	}
	p, err := stack.FetchPeer(ctx, url)
	if err != nil {
		return hinted(exitOperational, err, "the URL is that of the other server's page, such as https://log.example.org")
	}
	tellPeer(t, p)
	if verb == "show" {
		_, err := fmt.Fprintf(t.out, "peers:\n  - %s\n", p.Line())
		return err
	}
	return addPeer(ctx, t, *file, p, *yes)
}

// tellPeer shows the keys of a peer to a person.
func tellPeer(t terminal, p config.Peer) {
	fmt.Fprintf(t.err, "%s says of itself:\n", p.URL)
	for _, vkey := range p.Logs {
		fmt.Fprintf(t.err, "  log      %s\n", vkey)
	}
	if p.Witness == "" {
		fmt.Fprintln(t.err, "  it has no witness: its logs would be cosigned here, and yours not there")
		return
	}
	fmt.Fprintf(t.err, "  witness  %s\n           at %s\n", p.Witness, p.WitnessURL)
}

// addPeer puts a peer into the configuration at path if a person agrees.
func addPeer(ctx context.Context, t terminal, path string, p config.Peer, yes bool) error {
	c, err := stack.AddPeer(path, p, func() error {
		if yes {
			return nil
		}
		fmt.Fprint(t.err, "Are these the keys that its operator has told you? [y/N] ")
		answer, err := readLine(ctx, bufio.NewReader(t.in))
		if ctx.Err() != nil {
			return hinted(exitOperational, fmt.Errorf("waiting for an answer, nothing was written: %w", ctx.Err()), "")
		}
		switch strings.ToLower(strings.TrimSpace(answer)) {
		case "y", "yes":
			return nil
		}
		if err != nil && answer == "" {
			return hinted(exitUsage, errors.New("nobody answered; nothing was written"), "--yes answers beforehand")
		}
		return hinted(exitNegative, errors.New("not confirmed; nothing was written"), "")
	})
	if _, answered := errors.AsType[*exitError](err); answered {
		return err
	}
	if err != nil {
		return hinted(exitUsage, err, "\"tallywood peer show "+p.URL+"\" prints the line to put there by hand")
	}
	for _, line := range stack.ExplainPeers(c) {
		fmt.Fprintln(t.out, line)
	}
	_, err = fmt.Fprintf(t.out, "%s is written; restart the server\n", path)
	return err
}

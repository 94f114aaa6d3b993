// Package alert holds the sinks of package monitor: JSON lines in a file, webhooks as
// https://www.standardwebhooks.com specifies them or in the forms of chat services, mail (RFC 5321),
// issues on GitHub, programs, and feed files (RFC 4287).
//
// In go events, one at a time and possibly more than once; out go lines, requests, mails and runs.
// A sink keeps no queue and retries nothing: the monitor's outbox does both. Receivers tell
// repetitions by the event's ID.
//
// What an event says comes in part from whoever wrote to the log. Every sink writes it so that it
// can be no markup, no header and no argument. Secrets come from files and the environment, and are
// in no error.
package alert

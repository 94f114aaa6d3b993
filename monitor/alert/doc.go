// Package alert holds the sinks of package monitor: JSON lines in a file, and webhooks as
// https://www.standardwebhooks.com specifies them.
//
// In go events, one at a time and possibly more than once; out go lines and requests. A sink keeps
// no queue and retries nothing: the monitor's outbox does both. Receivers tell repetitions by the
// event's ID.
package alert

// Package web writes what a monitor knows as pages for people: static HTML and JSON files in a
// directory, which any web server or bucket may serve.
//
// In go the views of package monitor, again and again, and its events, once each: [Pages] is both a
// monitor.Display and a monitor.Sink. Out come files:
//
//	index.html             am I fine? identities, logs, the last alerts
//	alerts.html            all alerts that there are pages of
//	alerts/ID.html, .json  one alert; its evidence in alerts/ID/
//	identities/NAME.html   an identity: its signatures, what explains them
//	logs/NAME.html         a log: size, growth, checkpoint, witnesses
//	rules.html             what each rule means, and what to do
//	checkpoints/HEX        newest verified checkpoint of the log of which HEX is the SHA-256 of the origin
//	status.json            the index for programs
//	feed.xml               the alerts as an Atom feed
//
// Every page is whole in itself: it loads nothing, needs no script, and forbids both by a content
// security policy. Most of what is on it was chosen by whoever made a log entry: text is escaped, and
// what is not printable, such as characters that change the direction of writing, is spelled out.
// Evidence is copied under names that no browser takes for a page.
//
// The caller must give the directory to nobody else to write in. Whoever can read it learns which
// identities are watched, and what is expected of them.
package web

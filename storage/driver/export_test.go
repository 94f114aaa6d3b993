package driver

// Leading reports whether Run takes entries.
func Leading(l *Log) bool { return l.appender.Load() != nil }

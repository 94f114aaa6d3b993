package web

// What tests look at.
var (
	Visible  = visible
	FileName = fileName
	CopyName = copyName
	Security = security
	Count    = count
)

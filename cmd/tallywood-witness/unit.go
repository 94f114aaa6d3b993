package main

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"

	"tallywood/internal/keys"
)

// unitFile is the unit for systemd.
const unitFile = "tallywood-witness.service"

// stateRoot is where systemd keeps the directories of users that it makes up.
const stateRoot = "/var/lib"

// unit renders the unit. A directory in /var/lib becomes that of a user whom systemd makes up; any
// other remains its owner's.
func (f *initFlags) unit(keys.Witness) (string, error) {
	dir, err := filepath.Abs(f.dir)
	if err != nil {
		return "", err
	}
	data := map[string]any{"Dir": unitQuote(dir), "Argument": unitQuote(strings.ReplaceAll(dir, "$", "$$")), "Encrypted": f.encrypt, "InAgent": f.agentKey != "", "Source": filepath.Join(dir, unitFile), "Home": "yes"}
	// StateDirectory gives colons, quotes and backslashes another meaning even within quotes.
	if parent, name := filepath.Split(dir); filepath.Clean(parent) == stateRoot && !strings.ContainsAny(name, `:"'\`) {
		data["State"] = unitQuote(name)
		return render(unitTemplate, data)
	}
	data["User"] = strconv.Itoa(os.Getuid()) // in a container it may have no name, and systemd takes the number
	if owner, err := user.Current(); err == nil {
		data["User"] = owner.Username
	}
	for _, private := range []string{"/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/"} {
		if strings.HasPrefix(dir, private) {
			data["Home"], data["Bind"] = "tmpfs", true
		}
	}
	return render(unitTemplate, data)
}

// unitQuote quotes a path for a unit: %, quotes, spaces and, in BindPaths, colons mean something there.
func unitQuote(path string) string {
	path = strings.ReplaceAll(path, "%", "%%")
	if strings.ContainsAny(path, ": \t\n\"'\\") {
		return strconv.Quote(path)
	}
	return path
}

// unitTemplate is deploy/systemd/tallywood-witness.service for the witness of one directory. A test
// there compares them.
var unitTemplate = template.Must(template.New(unitFile).Parse(`# Runs this witness. As root:
#
#   install tallywood-witness /usr/local/bin/
#   cp {{.Source}} /etc/systemd/system/
{{- if .Encrypted}}
#   install -D -m 600 PASSPHRASE_FILE /etc/tallywood-witness/passphrase
{{- end}}
#   systemctl enable --now tallywood-witness
#
# "systemctl reload tallywood-witness" reads the files of logs and the bastions again.
{{- if .State}} The first start gives
# the directory to the user that the unit runs as.
{{- end}}
{{- if .InAgent}} The
# socket of the ssh-agent must be one that this user may use: agent_socket in config.yaml.
{{- end}}

[Unit]
Description=Tallywood witness of transparency logs
Wants=network-online.target
After=network-online.target time-sync.target

[Service]
Type=notify
ExecStart=/usr/local/bin/tallywood-witness serve --dir {{.Argument}}
ExecReload=kill -HUP $MAINPID
{{- if .Encrypted}}
LoadCredential=tallywood-witness.passphrase:/etc/tallywood-witness/passphrase
{{- end}}
WatchdogSec=30
Restart=on-failure
RestartSec=2
# 2 is a configuration it cannot run. 5 may be a disk that failed to make its state durable: look
# at that before you start it again.
RestartPreventExitStatus=2 5

{{if .State -}}
DynamicUser=yes
StateDirectory={{.State}}
StateDirectoryMode=0700
{{else -}}
User={{.User}}
ReadWritePaths={{.Dir}}
{{end -}}
UMask=0077
LimitNOFILE=65536

ProtectSystem=strict
ProtectHome={{.Home}}
{{- if .Bind}}
BindPaths={{.Dir}}
{{- end}}
PrivateTmp=yes
PrivateDevices=yes
PrivateUsers=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
NoNewPrivileges=yes
CapabilityBoundingSet=
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
`))

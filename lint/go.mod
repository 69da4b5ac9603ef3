module virtctl/lint

go 1.26.0

require (
	codeberg.org/polyfloyd/go-errorlint v1.9.0
	github.com/OpenPeeDeeP/depguard/v2 v2.2.1
	go.yaml.in/yaml/v3 v3.0.4
	golang.org/x/tools v0.49.0
)

require (
	github.com/gobwas/glob v0.2.3 // indirect
	github.com/google/go-cmp v0.7.0 // indirect
	golang.org/x/mod v0.39.0 // indirect
	golang.org/x/sync v0.22.0 // indirect
	mvdan.cc/gofumpt v0.9.2 // indirect
)

tool mvdan.cc/gofumpt

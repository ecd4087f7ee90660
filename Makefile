# latchkey: what you type here is what the checks run. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

STATICCHECK_VERSION := v0.8.0
GREMLINS_VERSION := v0.6.0
TOOLS := $(CURDIR)/.cache/tools
DIST := $(CURDIR)/dist
PART := .ci/part
export GOFLAGS := -buildvcs=false
export LATCHKEY_REQUIRE := all

# The packages whose concurrency matters; load tests never run under the race detector.
RACE := ./internal/secret ./internal/audit ./internal/keyring ./keys/... ./pin ./dukpt ./hsm ./message ./tls/... \
	./decrypt/... ./internal/store/... ./internal/serve ./internal/strictjson ./internal/deploy ./internal/node/... ./terminal/... ./examples/...

# Packages whose tests are a part of their own. Those on a real Vault are the later, the better: it is built meanwhile.
APART := (internal/(e2e|ctgrind|vaulttest)|tls/ca/vault|cmd/liblatchkey)$$
VAULT := ./internal/vaulttest ./tls/ca/vault

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

.PHONY: build
build: ## the programs, into dist/
	@mkdir -p $(DIST)
	@CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o $(DIST)/ ./cmd/...

.PHONY: build-hsm
build-hsm: ## the programs that work with tokens, with the PKCS#11 bridge, which needs a C compiler
	@mkdir -p $(DIST)
	@CGO_ENABLED=1 go build -trimpath -ldflags '-s -w' -o $(DIST)/latchkey-hsm ./cmd/latchkey
	@for service in decryptd keyd provisiond terminal; do \
		CGO_ENABLED=1 go build -trimpath -ldflags '-s -w' -o $(DIST)/latchkey-$$service-hsm ./cmd/latchkey-$$service; done

.PHONY: lib
lib: ## the C library for firmware, core and whole, into dist/lib/; ARCH=arm64 or arm for another machine
	@for flavour in core link; do .ci/lib $(DIST)/lib/$(or $(ARCH),$$(go env GOARCH))/$$flavour $$flavour $(ARCH); done

.PHONY: demo
demo: ## build everything and run the whole story on this machine, in about a minute
	@start=$$(date +%s.%N); $(MAKE) --no-print-directory build; \
	awk -v a=$$start -v b=$$(date +%s.%N) 'BEGIN { printf "build time: %.1f s\n", b-a }'
	@start=$$(date +%s.%N); $(DIST)/latchkey demo; \
	awk -v a=$$start -v b=$$(date +%s.%N) 'BEGIN { printf "run time: %.1f s\n", b-a }'

.PHONY: demo-vault
demo-vault: build vault ## the same on a real Vault, which is built the first time
	@$(DIST)/latchkey demo --vault --vault-program $(TOOLS)/vault

.PHONY: test
test: ## everything that must pass before a change lands
	@rm -f .cache/parts; mkdir -p .cache
	@$(PART) env .ci/env
	@.ci/vault >.cache/vault.log 2>&1 & # beside the other work; the part that needs it waits for it
	@$(PART) tools $(MAKE) --no-print-directory tools
	@$(PART) laws $(MAKE) --no-print-directory laws
	@$(PART) unit $(MAKE) --no-print-directory unit
	@$(PART) ctgrind $(MAKE) --no-print-directory ctgrind
	@$(PART) cover $(MAKE) --no-print-directory cover
	@$(PART) vectors $(MAKE) --no-print-directory vectors
	@$(PART) vault $(MAKE) --no-print-directory on-vault
	@$(PART) race $(MAKE) --no-print-directory race
	@$(PART) real $(MAKE) --no-print-directory real
	@$(PART) clib $(MAKE) --no-print-directory clib
	@$(PART) fuzz $(MAKE) --no-print-directory fuzz
	@echo; echo "minutes per part:"; cat .cache/parts

.PHONY: tools
tools: ## the linters, built once
	@mkdir -p $(TOOLS)
	@[ -x $(TOOLS)/staticcheck-$(STATICCHECK_VERSION) ] || { \
		GOBIN=$(TOOLS) GOFLAGS= go install honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION); \
		mv $(TOOLS)/staticcheck $(TOOLS)/staticcheck-$(STATICCHECK_VERSION); }

.PHONY: laws
laws: tools ## format, vet, lint and the rules of the house
	@bad=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$bad" ] || { echo "not gofmt'ed: $$bad"; exit 1; }
	@go vet ./... && go vet -tags planted ./... && go vet -tags valgrind ./internal/ctgrind/... ./internal/secret
	@$(TOOLS)/staticcheck-$(STATICCHECK_VERSION) ./...
	@go mod verify >/dev/null && go mod tidy -diff
	@go test -count=1 -v ./internal/laws

.PHONY: unit
unit: ## every test but the ones against whole programs; then those of planted faults
	@go test -timeout 20m $$(go list ./... | grep -vE '$(APART)')
	@.ci/on32 ./internal/des ./internal/mac ./internal/padding ./keys/... ./pin ./dukpt # 32 lanes, and 32-bit int
	@CGO_ENABLED=0 go test -count=1 -v -run '^TestNoBridge$$' ./hsm | grep -- '--- PASS: TestNoBridge'
	@.ci/planted $$(git grep -l '^//go:build planted' -- '*_test.go' ':!tls/ca/vault' | xargs -n1 dirname | sort -u | sed 's|^|./|')

.PHONY: vault
vault: ## the Vault that tests run against, built once, in ten minutes
	@.ci/vault

.PHONY: on-vault
on-vault: vault ## the issuer of terminals on a real Vault: conformance, faults, logins; then those of planted faults
	@go test -count=1 -timeout 20m -v $(VAULT) | sed -E 's/^ +[a-z_]+\.go:[0-9]+: //; s/, at https?:.*//' | grep -vE '^(===|--- PASS|    --- PASS|PASS)' | awk '!seen[$$0]++'
	@.ci/planted ./tls/ca/vault

.PHONY: cover
cover: ## statement coverage of the core, 95 % at least
	@.ci/cover

.PHONY: ctgrind
ctgrind: ## no jump and no address that depends on a secret, as Valgrind sees it
	@go test -count=1 -v ./internal/ctgrind | sed -E 's/^ +[a-z_]+\.go:[0-9]+: //' | grep -vE '^(===|---|PASS)'

.PHONY: bench
bench: ## times as ratios to the standard library's, three runs; fails beyond the targets
	@for run in 1 2 3; do go test -count=1 -v -run '^TestRatios$$' ./dukpt -ratios | grep -vE '^(ok|PASS|===|---)'; done

.PHONY: bench-host
bench-host: ## what the decryption service costs, as ratios, three runs; fails beyond the targets
	@status=0; for run in 1 2 3; do \
		for package in ./internal/e2e:TestHostRatios ./internal/store/sqlite/claims:TestRatios ./internal/store/sqlite/claims:TestRestart ./internal/store/postgres:TestRatios; do \
			go test -count=1 -v -timeout 30m -run "^$${package##*:}$$" $${package%%:*} -ratios | grep -vE '^(ok|PASS|===|---|FAIL|exit)' || status=1; done; done; exit $$status

.PHONY: vectors
vectors: ## how many comparisons each vector file got
	@go test -count=1 -v -run Vectors $$(go list ./... | grep -vE '$(APART)') | grep -E 'vectors: |^(FAIL|---)' | grep -v -- '--- PASS' | sed -E 's/^ +[a-z_]+\.go:[0-9]+: //'

.PHONY: race
race: vault ## the concurrent packages under the race detector
	@go test -timeout 20m -race -short $(RACE)

.PHONY: real
real: build vault ## whole programs over real sockets and disks: the demo, its guards, kill -9
	@go test -count=1 -p 1 -timeout 45m -v ./internal/e2e | grep -vE '^=== (RUN|PAUSE|CONT|NAME)'

.PHONY: clib
clib: ## the C library: vectors, wrong calls and engines in C, on three processors
	@go test -count=1 -timeout 20m -v -tags testengine ./cmd/liblatchkey | grep -vE '^=== (RUN|PAUSE|CONT|NAME)'

.PHONY: fuzz
fuzz: ## every fuzz target: a count of executions, and a planted bug that must be found
	@.ci/fuzz

.PHONY: soak
soak: build vault ## the long runs: more kills, power cuts, losses of tokens, more executions, mutants
	@LATCHKEY_SOAK=1 go test -count=1 -p 1 -timeout 6h -v ./internal/e2e | grep -vE '^=== (RUN|PAUSE|CONT|NAME)'
	@LATCHKEY_SOAK=1 go test -count=1 -timeout 2h -v -run '^(TestLosses|TestServedLosses|TestGrowth)$$' ./hsm | grep -vE '^=== (RUN|PAUSE|CONT|NAME)'
	@LATCHKEY_SOAK=1 go test -count=1 -timeout 3h -v -run '^(TestExplorer|TestLinkFaults|TestDeadPeer|TestNoStampede)$$' ./terminal | grep -vE '^=== (RUN|PAUSE|CONT|NAME)'
	@LATCHKEY_SOAK=1 go test -count=1 -timeout 1h -v -run '^TestKill$$' ./cmd/latchkey-terminal | grep -vE '^=== (RUN|PAUSE|CONT|NAME)'
	@FUZZ_EXECS=10000000 .ci/fuzz
	@$(MAKE) --no-print-directory mutate

.PHONY: mutate
mutate: ## how many mutants of the core its tests kill, 85 % at least; more than an hour
	@mkdir -p $(TOOLS)
	@[ -x $(TOOLS)/gremlins-$(GREMLINS_VERSION) ] || { \
		GOBIN=$(TOOLS) GOFLAGS= go install github.com/go-gremlins/gremlins/cmd/gremlins@$(GREMLINS_VERSION); \
		mv $(TOOLS)/gremlins $(TOOLS)/gremlins-$(GREMLINS_VERSION); }
	@.ci/mutate $(TOOLS)/gremlins-$(GREMLINS_VERSION) ./dukpt ./pin ./keys/keyblock

.PHONY: clean
clean: ## remove what was built
	@rm -rf $(DIST) .cache

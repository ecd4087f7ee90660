// Package sealtest makes sealing cheap. Tests of programs and deployments import it for that effect alone: with it seal.DefaultParams cost
// next to nothing, where a deployment of a dozen sealed files takes seconds of both processors otherwise. What the default is, and that
// what ships uses it, is tested without it.
package sealtest

import "github.com/latchkey-pos/latchkey/internal/seal"

func init() { seal.DefaultParams = seal.Params{Memory: 64, Time: 1, Parallelism: 1} }

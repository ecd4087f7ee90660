// Package serve is the HTTP plumbing of the daemons: limits, time-outs, request ids, one form of error, one line of log a
// request, and an orderly end.
//
// A daemon wraps its routes with [Wrap] and hands them to [Run] with a listener; its operators' listener gets [Admin].
// Handlers are a [Handler]: they return an error and never write one. What is logged and counted is the route and the
// status and what a handler passes to [Note]; paths, headers and bodies are neither logged nor counted, because they may
// hold card data.
package serve

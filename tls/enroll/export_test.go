package enroll

// Exporter is what Key takes from the connection of an answer.
var Exporter = exporter

// RefusalOf is what a call makes of an answer that is a refusal.
var RefusalOf = refusalOf

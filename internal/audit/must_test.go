package audit

// must gives tests a value that cannot fail.
func must[T any](v T, err error) T {
	if err != nil {
		panic("audit: " + err.Error())
	}
	return v
}

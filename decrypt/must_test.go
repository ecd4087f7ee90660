package decrypt

// must gives tests a value that cannot fail.
func must[T any](v T, err error) T {
	if err != nil {
		panic("decrypt: " + err.Error())
	}
	return v
}

package message

// must gives tests a value that cannot fail.
func must[T any](v T, err error) T {
	if err != nil {
		panic("message: " + err.Error())
	}
	return v
}

package main

// Two faults that the test demands to be reported: without them, silence could mean that nobody listened.
var plantedCases = []oneCase{
	{"planted: early exit", casePlantedExit},
	{"planted: table", casePlantedTable},
}

// casePlantedExit compares a secret as bytes.Equal may: up to the first difference.
func casePlantedExit(m *marks) error {
	a := m.secret(message)
	for i := range a {
		if a[i] != message[i] {
			return errWrong
		}
	}
	return nil
}

// squares is a table that a secret chooses from.
var squares [256]byte

// casePlantedTable looks a secret up.
func casePlantedTable(m *marks) error {
	for i := range squares {
		squares[i] = byte(i * i)
	}
	a := m.secret([]byte{7})
	return want([]byte{squares[a[0]]}, []byte{49})
}

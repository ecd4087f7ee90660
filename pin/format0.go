package pin

// AppendFormat0 is [Format.Append] of format 0.
func AppendFormat0(dst []byte, p PIN, pan PAN) ([]byte, error) {
	return Format0.Append(dst, p, pan, Fill{})
}

// DecodeFormat0 is [Format.Decode] of format 0 into memory of its own.
func DecodeFormat0(block []byte, pan PAN) (Opened, error) {
	var o Opened
	if err := Format0.Decode(&o, block, pan); err != nil {
		return Opened{}, err
	}
	return o, nil
}

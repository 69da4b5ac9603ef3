package iso

const (
	fileMode = 0o100444
	dirMode  = 0o040555
	// maxNM is how much of a name goes into one entry.
	maxNM = 200
	// maxSystemUse keeps a directory record within its 255 bytes.
	maxRecord = 254
	ceSize    = 28
)

// susp returns the Rock Ridge entries of a directory record whose identifier has idLength bytes.
func (img *image) susp(n *node, tree, idLength int, name string, area *[]byte) []byte {
	if tree == joliet {
		return nil
	}
	px := posixEntry(n)
	room := maxRecord - (recordSize + idLength + 1)
	if name == "." || name == ".." {
		if name == ".." || n.parent != nil {
			return px
		}
		// The root's own record says that Rock Ridge is in use.
		use := append([]byte{'S', 'P', 7, 1, 0xbe, 0xef, 0}, px...)
		return append(use, img.continued(extensionEntry(), area)...)
	}
	nm := nameEntries(name)
	if len(px)+len(nm) <= room {
		return append(px, nm...)
	}
	return append(px, img.continued(nm, area)...)
}

// continued puts entries into the continuation area, within one sector, and returns the entry that points there.
func (img *image) continued(entries []byte, area *[]byte) []byte {
	if room := sector - len(*area)%sector; room < len(entries) {
		*area = append(*area, make([]byte, room)...)
	}
	at := uint32(len(*area))
	*area = append(*area, entries...)
	ce := make([]byte, ceSize)
	copy(ce, []byte{'C', 'E', ceSize, 1})
	both32(ce[4:], img.continuation+at/sector)
	both32(ce[12:], at%sector)
	both32(ce[20:], uint32(len(entries)))
	return ce
}

func posixEntry(n *node) []byte {
	px := make([]byte, 36)
	copy(px, []byte{'P', 'X', 36, 1})
	mode, links := uint32(fileMode), uint32(1)
	if n.dir {
		mode, links = dirMode, 2
	}
	both32(px[4:], mode)
	both32(px[12:], links)
	return px
}

// nameEntries splits a name, because an entry's length is one byte.
func nameEntries(name string) []byte {
	var out []byte
	for {
		part, flags := name, byte(0)
		if len(part) > maxNM {
			part, flags = part[:maxNM], 1
		}
		out = append(out, 'N', 'M', byte(5+len(part)), 1, flags)
		out = append(out, part...)
		if name = name[len(part):]; name == "" {
			return out
		}
	}
}

func extensionEntry() []byte {
	const (
		id          = "RRIP_1991A"
		description = "THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS"
		source      = "PLEASE CONTACT DISC PUBLISHER FOR SPECIFICATION SOURCE.  SEE PUBLISHER IDENTIFIER IN PRIMARY VOLUME DESCRIPTOR FOR CONTACT INFORMATION."
	)
	e := []byte{'E', 'R', byte(8 + len(id) + len(description) + len(source)), 1, byte(len(id)), byte(len(description)), byte(len(source)), 1}
	e = append(e, id...)
	e = append(e, description...)
	return append(e, source...)
}

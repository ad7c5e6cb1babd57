//! Opcodes that are refused, by name, and the escapes of the old text forms.

/// The name of an opcode that would do something, or that no snapshot needs.
pub fn name(op: u8) -> Option<&'static str> {
    Some(match op {
        b'c' => "GLOBAL",
        0x93 => "STACK_GLOBAL",
        b'R' => "REDUCE",
        b'b' => "BUILD",
        b'i' => "INST",
        b'o' => "OBJ",
        0x81 => "NEWOBJ",
        0x92 => "NEWOBJ_EX",
        0x82 => "EXT1",
        0x83 => "EXT2",
        0x84 => "EXT4",
        b'P' => "PERSID",
        b'Q' => "BINPERSID",
        0x97 => "NEXT_BUFFER",
        0x98 => "READONLY_BUFFER",
        0x8f => "EMPTY_SET",
        0x90 => "ADDITEMS",
        0x91 => "FROZENSET",
        b'0' => "POP",
        b'1' => "POP_MARK",
        b'2' => "DUP",
        _ => return None,
    })
}

/// Undoes `\n`, `\'`, `\x41`, `\u0041` and the like; what is no escape stays as it is.
pub fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let ahead = rest.as_str();
        let (length, plain) = match rest.next() {
            Some('x') => (2, None),
            Some('u') => (4, None),
            Some('U') => (8, None),
            Some('n') => (0, Some('\n')),
            Some('r') => (0, Some('\r')),
            Some('t') => (0, Some('\t')),
            Some(other) => (0, Some(other)),
            None => (0, Some('\\')),
        };
        let code = ahead.get(1..=length).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match (plain, code.and_then(char::from_u32)) {
            (Some(plain), _) => out.push(plain),
            (None, Some(c)) => {
                out.push(c);
                rest.nth(length - 1);
            }
            (None, None) => {
                out.push('\\');
                rest = ahead.chars();
            }
        }
    }
    out
}

//! The sixteen named colours in the form that every terminal knows: crossterm writes them as entries of a table of 256,
//! which a terminal of eight or sixteen colours never said it has.

/// `38;5;1` becomes `31`, `48;5;9` becomes `101`; all else stays.
pub fn spell(frame: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(frame.len());
    let mut rest = frame;
    while let Some(at) = memchr::memmem::find(rest, b"\x1b[") {
        let (before, sequence) = rest.split_at(at + 2);
        out.extend_from_slice(before);
        let length = sequence.iter().take_while(|b| b.is_ascii_digit() || **b == b';').count();
        let (parameters, after) = sequence.split_at(length);
        if after.first() == Some(&b'm') {
            out.extend(named(parameters));
        } else {
            out.extend_from_slice(parameters);
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    out
}

fn named(parameters: &[u8]) -> Vec<u8> {
    let numbers: Vec<Option<u16>> =
        parameters.split(|b| *b == b';').map(|n| std::str::from_utf8(n).ok()?.parse().ok()).collect();
    let mut words: Vec<String> = Vec::new();
    let mut rest = numbers.as_slice();
    loop {
        match rest {
            [] => break,
            [Some(kind @ (38 | 48)), Some(5), Some(colour @ 0..16), after @ ..] => {
                let bright = if *colour < 8 { 0 } else { 60 - 8 };
                words.push((kind - 8 + bright + colour).to_string());
                rest = after;
            }
            [Some(kind @ (38 | 48)), Some(5), Some(colour), after @ ..] => {
                words.push(format!("{kind};5;{colour}"));
                rest = after;
            }
            [Some(kind @ (38 | 48)), Some(2), Some(r), Some(g), Some(b), after @ ..] => {
                words.push(format!("{kind};2;{r};{g};{b}"));
                rest = after;
            }
            [number, after @ ..] => {
                words.push(number.map_or_else(String::new, |n| n.to_string()));
                rest = after;
            }
        }
    }
    words.join(";").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_colours_are_spelt_out_and_the_rest_stays() {
        let check = |frame: &str, want: &str| assert_eq!(String::from_utf8(spell(frame.as_bytes())).unwrap(), want);
        check("\x1b[38;5;8;49mx", "\x1b[90;49mx");
        check("\x1b[38;5;1;48;5;15mx\x1b[0m", "\x1b[31;107mx\x1b[0m");
        check("\x1b[38;5;16mx", "\x1b[38;5;16mx");
        check("\x1b[38;2;38;5;1mx", "\x1b[38;2;38;5;1mx");
        check("\x1b[mx\x1b[1;3H38;5;1m", "\x1b[mx\x1b[1;3H38;5;1m");
        check("\x1b[?25l\x1b[2J", "\x1b[?25l\x1b[2J");
    }
}

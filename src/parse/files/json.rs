//! Numbers out of JSON as Python writes it: bare `NaN` and `Infinity`, nested objects as `a/b`.

use std::borrow::Cow;

use serde_json::Value;

/// Text longer than this is not looked at.
pub const MAX: usize = 1 << 20;

/// Parses JSON in which numbers may be `NaN`, `Infinity` or `-Infinity`; they become strings. Nesting past 128 is an error.
pub fn parse(text: &[u8]) -> Option<Value> {
    if text.len() > MAX {
        return None;
    }
    serde_json::from_slice(&quote_nonfinite(text)).ok()
}

/// Calls `put` with each number of a value: the key of a nested one is joined with `/`. Lists, texts, booleans and the
/// media objects of W&B hold no metric.
pub fn numbers(key: &mut String, value: &Value, put: &mut dyn FnMut(&str, f64)) {
    match value {
        Value::Number(number) => {
            if let Some(number) = number.as_f64() {
                put(key, number);
            }
        }
        Value::String(text) => {
            if let Some(number) = nonfinite(text) {
                put(key, number);
            }
        }
        Value::Object(entries) if !entries.contains_key("_type") => {
            let end = key.len();
            for (name, value) in entries {
                if !key.is_empty() {
                    key.push('/');
                }
                key.push_str(name);
                numbers(key, value, put);
                key.truncate(end);
            }
        }
        Value::Object(_) | Value::Array(_) | Value::Bool(_) | Value::Null => {}
    }
}

/// The number that is spelt as a word.
fn nonfinite(text: &str) -> Option<f64> {
    match text {
        "NaN" | "nan" => Some(f64::NAN),
        "Infinity" | "inf" => Some(f64::INFINITY),
        "-Infinity" | "-inf" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn quote_nonfinite(text: &[u8]) -> Cow<'_, [u8]> {
    const WORDS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];
    if memchr::memchr2(b'N', b'I', text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len() + 16);
    let mut rest = text;
    let mut in_string = false;
    while let Some(byte) = rest.first() {
        let mut take = 1;
        if in_string {
            match byte {
                b'\\' => take = 2,
                b'"' => in_string = false,
                _ => {}
            }
        } else if let Some(word) = WORDS.into_iter().find(|word| rest.starts_with(word)) {
            out.push(b'"');
            out.extend_from_slice(word);
            out.push(b'"');
            rest = &rest[word.len()..];
            continue;
        } else if *byte == b'"' {
            in_string = true;
        }
        let (taken, after) = rest.split_at(take.min(rest.len()));
        out.extend_from_slice(taken);
        rest = after;
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found() {
        let check = |text: &str, want: &[(&str, f64)]| {
            let mut got = Vec::new();
            if let Some(value) = parse(text.as_bytes()) {
                numbers(&mut "k".to_string(), &value, &mut |key, v| got.push((key.to_string(), v)));
            }
            assert_eq!(format!("{got:?}"), format!("{want:?}"), "{text}");
        };
        check("1.5", &[("k", 1.5)]);
        check("NaN", &[("k", f64::NAN)]);
        check("\"Infinity\"", &[("k", f64::INFINITY)]);
        check("-Infinity", &[("k", f64::NEG_INFINITY)]);
        check("{\"a\": {\"b\": 1, \"NaN\": NaN}, \"c\": true}", &[("k/a/b", 1.0), ("k/a/NaN", f64::NAN)]);
        check("{\"_type\": \"histogram\", \"bins\": [1]}", &[]);
        check("{\"a\\\"b NaN\": 2}", &[("k/a\"b NaN", 2.0)]);
        check("[1, 2]", &[]);
        check("{\"a\": 1", &[]);
        check("\"text\"", &[]);
    }

    #[test]
    fn a_depth_bomb_is_an_error() {
        assert_eq!(parse("[".repeat(MAX).as_bytes()), None);
        assert_eq!(parse("{\"a\":".repeat(1000).as_bytes()), None);
    }
}

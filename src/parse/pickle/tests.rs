use proptest::prelude::*;

use super::*;

fn error(bytes: &[u8]) -> String {
    match read(bytes) {
        Ok(tree) => format!("read: {:?}", tree.node(tree.root())),
        Err(error) => error.to_string(),
    }
}

/// A short text, as protocol 4 writes it.
fn text(text: &str) -> Vec<u8> {
    let mut out = vec![0x8c, text.len() as u8];
    out.extend_from_slice(text.as_bytes());
    out
}

fn check(bytes: &[u8], want: &str) {
    let got = error(bytes);
    assert!(got.contains(want), "{got} does not say: {want}");
}

#[test]
fn plain_values_of_every_protocol() {
    // {'a': [1, -2, 1 << 40, 1.5, True, None, 'é'], 't': (1, 2, 3)} by pickle.dumps, protocols 0 to 4.
    let dumps: [&[u8]; 3] = [
        b"(dp0\nVa\np1\n(lp2\nI1\naI-2\naL1099511627776L\naF1.5\naI01\naNaV\\u00e9\np3\nasVt\np4\n(I1\nI2\nI3\ntp5\ns.",
        b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xff\x8a\x06\x00\x00\x00\x00\x00\x01G?\xf8\x00\x00\x00\x00\x00\x00\x88NX\x02\x00\x00\x00\xc3\xa9q\x03eX\x01\x00\x00\x00tq\x04K\x01K\x02K\x03\x87q\x05u.",
        b"\x80\x04\x95;\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94]\x94(K\x01J\xfe\xff\xff\xff\x8a\x06\x00\x00\x00\x00\x00\x01G?\xf8\x00\x00\x00\x00\x00\x00\x88N\x8c\x02\xc3\xa9\x94e\x8c\x01t\x94K\x01K\x02K\x03\x87\x94u.",
    ];
    for (nth, dump) in dumps.into_iter().enumerate() {
        let tree = read(dump).unwrap_or_else(|e| panic!("{nth}: {e}"));
        let get = |name: &str| tree.items(tree.get(tree.root(), tree.key(name)).unwrap()).unwrap();
        let seen: Vec<String> = get("a").iter().map(|v| format!("{:?}", tree.node(*v))).collect();
        let want = ["Int(1)", "Int(-2)", "Int(1099511627776)", "Float(1.5)", "Bool(true)", "None", "Text(\"é\")"];
        assert_eq!(seen, want, "{nth}");
        assert_eq!(get("t").len(), 3, "{nth}");
    }
}

#[test]
fn what_would_run_is_refused_by_name() {
    let global = |module: &str, name: &str| [b"\x80\x04", text(module).as_slice(), &text(name), b"\x93"].concat();
    check(b"cos\nsystem\n(S'id'\ntR.", "refused: GLOBAL 'os.system' at byte 0");
    check(b"\x80\x02cposix\nsystem\nq\x00X\x02\x00\x00\x00idq\x01\x85q\x02Rq\x03.", "GLOBAL 'posix.system'");
    check(&global("builtins", "eval"), "STACK_GLOBAL 'builtins.eval'");
    check(&global("torch._utils", "_rebuild_tensor_v2"), "STACK_GLOBAL 'torch._utils._rebuild_tensor_v2'");
    check(b"(S'id'\nios\nsystem\n.", "INST 'os.system'");
    check(b"\x80\x02NN\x85R.", "REDUCE");
    check(b"\x80\x02N}b.", "BUILD");
    check(b"(No.", "OBJ");
    check(b"\x80\x02N)\x81.", "NEWOBJ");
    check(b"\x80\x04N)}\x92.", "NEWOBJ_EX");
    check(b"\x80\x02\x82\x07.", "EXT1 '7'");
    check(b"\x80\x02\x83\x07\x01.", "EXT2 '263'");
    check(b"\x80\x02\x84\x07\x01\x00\x00.", "EXT4 '263'");
    check(b"Pmodule.object\n.", "PERSID 'module.object'");
    check(b"\x80\x02K\x01Q.", "BINPERSID");
    check(b"\x80\x05\x97.", "NEXT_BUFFER");
    check(b"\x80\x05N\x98.", "READONLY_BUFFER");
    check(b"\x80\x04\x8f.", "EMPTY_SET");
    check(b"\x80\x04(\x91.", "FROZENSET");
    check(b"N0N.", "POP");
    // Names go to the terminal clean, and never whole when they are long.
    check(b"cos\n\x1b]0;title\x07\n.", r"'os.\u{1b}]0;title\u{7}'");
    assert!(error(format!("cos\n{}\n.", "x".repeat(5000)).as_bytes()).len() < 400);
}

#[test]
fn sizes_are_not_believed() {
    check(b"\x80\x04\x8b\xff\xff\xff\x7f\x01.", "refused: LONG4 of 2147483647 bytes");
    check(b"\x80\x04\x8b\xff\xff\xff\xff\x01.", "refused: LONG4 of -1 bytes");
    check(b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x3fabc.", "refused: BINUNICODE8 of 4611686018427387903 bytes");
    check(b"\x80\x04X\x00\x00\x00\x01abc.", "cut");
    check(b"\x80\x04T\x00\x00\x00\x80abc.", "BINSTRING of -2147483648 bytes");
    check(b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xffabc.", "cut");
    check(b"\x80\x04Nr\xff\xff\xff\xff.", "refused: place 4294967295 of the memo");
    check(b"\x80\x04Np999999999999\n.", "refused: place 999999999999 of the memo");
    check(&[b"(".repeat(1000), b".".to_vec()].concat(), "refused: MARK, nested more than 128 deep");
    check(&[b"I".to_vec(), b"9".repeat(2 << 20)].concat(), "a line without an end");
    check(&[b"I".to_vec(), b"9".repeat(5000), b"\n.".to_vec()].concat(), "INT without a number");
}

#[test]
fn bombs_are_refused_before_they_swell() {
    // 40 million values of one byte would be 320 MB on the stack.
    check(&b"N".repeat(40 << 20), "more memory than its size explains");
    check(&b"]".repeat(20 << 20), "more memory than its size explains");
    check(&b"K\x01\x85".repeat(8 << 20), "more memory than its size explains");
    // A list of ten times a list of ten times … is small here, since a place in the memo is eight bytes.
    let mut bytes = b"\x80\x04]q\x00".to_vec();
    for n in 1..=60u8 {
        bytes.extend([b']', b'q', n, b'(']);
        bytes.extend([b'h', n - 1].repeat(10));
        bytes.push(b'e');
    }
    bytes.push(b'.');
    let tree = read(bytes.as_slice()).unwrap();
    assert!(tree.kept() < 100_000, "{}", tree.kept());
    // A list within itself is no trouble either.
    let tree = read(&b"]q\x00h\x00a."[..]).unwrap();
    assert_eq!(tree.items(tree.root()), Some(&[tree.root()][..]));
}

#[test]
fn what_is_damaged_says_where() {
    check(b"", "it ends in the middle, after 0 bytes");
    check(b"{\"loss\": 1}", "not a pickle: no opcode is 0x7b at byte 0");
    check(b"\x80\x09N.", "protocol 9");
    check(b"\x80\x04\x01", "no opcode is 0x01 at byte 2");
    check(b"a.", "not a pickle: a value that is not there at byte 0");
    check(b"(a.", "a value that is not there");
    check(b"N(e.", "items for a list that is none");
    check(b"e.", "the end of something that was not begun");
    check(b"}(Nu.", "a key without a value");
    check(b"](NNu.", "keys for a dict that is none");
    check(b"h\x05.", "place 5 of the memo");
    check(b"N\x87.", "a tuple of more than there is");
}

#[test]
fn a_dict_of_many_batches_and_of_keys_set_twice() {
    let key = |n: u8| [b'U', 1, b'a' + n];
    let mut bytes = b"}".to_vec();
    for batch in 0..2u8 {
        bytes.push(b'(');
        for n in 0..20u8 {
            bytes.extend(key(n));
            bytes.extend([b'K', n + 100 * batch]);
        }
        bytes.push(b'u');
    }
    bytes.extend(key(3));
    bytes.extend(b"K\x09s.");
    let tree = read(bytes.as_slice()).unwrap();
    let at = |name: &str| tree.get(tree.root(), tree.key(name)).map(|v| tree.node(v));
    assert_eq!((at("a"), at("d"), at("t")), (Some(Node::Int(100)), Some(Node::Int(9)), Some(Node::Int(119))));
    assert_eq!(tree.get(tree.root(), tree.key("none")), None);
}

#[test]
fn whole_numbers_at_their_limits() {
    let number = |bytes: &[u8]| {
        let tree = read(bytes).unwrap();
        format!("{:?}", tree.node(tree.root()))
    };
    assert_eq!(number(b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f."), format!("Int({})", i64::MAX));
    assert_eq!(number(b"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80."), format!("Int({})", i64::MIN));
    assert_eq!(number(b"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\x7f\x00."), format!("Int({})", i64::MAX));
    assert_eq!(number(b"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x00."), "Opaque");
    assert_eq!(number(b"\x8a\x00."), "Int(0)");
    assert_eq!(number(b"\x8a\x01\xff."), "Int(-1)");
    assert_eq!(number(b"L99999999999999999999999L\n."), "Opaque");
    assert_eq!(number(b"C\x03abc."), "Opaque");
}

proptest! {
    /// Any bytes, and bytes that are mostly opcodes: an answer, never a panic, and never more memory than allowed.
    #[test]
    fn no_bytes_panic(
        any in proptest::collection::vec(any::<u8>(), 0..400),
        ops in proptest::collection::vec(proptest::sample::select(b"(NKMJI]}late)sudhqj\x85\x86\x87\x8c\x94\x88U.".to_vec()), 0..400),
    ) {
        for bytes in [any, ops] {
            if let Ok(tree) = read(bytes.as_slice()) {
                prop_assert!(tree.kept() <= 3 * bytes.len() as u64 + HEADROOM);
            }
        }
    }

    /// The same bytes through a buffer of any size give the same.
    #[test]
    fn any_buffer_gives_the_same(size in 1usize..40, cut in 0usize..200) {
        let whole: Vec<u8> = [b"\x80\x04}\x94(\x8c\x01a\x94](K\x01J\x00\x01\x00\x00".as_slice(), &text("words of some length"), b"G?\xf8\x00\x00\x00\x00\x00\x00eu."].concat();
        let bytes = &whole[..cut.min(whole.len())];
        let show = |result: Result<Tree, PickleError>| result.map(|t| format!("{t:?}").len()).map_err(|e| e.to_string());
        let small = std::io::BufReader::with_capacity(size, bytes);
        prop_assert_eq!(show(read(small)), show(read(bytes)));
    }
}

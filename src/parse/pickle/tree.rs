//! What a pickle holds, in as few bytes as it took there: a value is eight bytes, and dicts of the same keys share them.

use std::{borrow::Cow, collections::HashMap};

/// One value: a kind in the lowest four bits, and a number or a place above them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Val(u64);

const INT: u64 = 1;
const WIDE: u64 = 2;
const FLOAT: u64 = 3;
const TEXT: u64 = 4;
const LIST: u64 = 5;
const TUPLE: u64 = 6;
const DICT: u64 = 7;

impl Val {
    pub const NONE: Self = Self(0);
    pub const TRUE: Self = Self(0x10);
    pub const FALSE: Self = Self(0x20);
    /// Something that is there and was not kept: bytes, a number beyond 64 bits.
    pub const OPAQUE: Self = Self(0x30);
    /// A place of the memo where nothing was put.
    pub const UNSET: Self = Self(0x40);

    fn at(kind: u64, place: usize) -> Self {
        Self((place as u64) << 4 | kind)
    }

    fn kind(self) -> u64 {
        self.0 & 0xf
    }

    fn place(self) -> usize {
        (self.0 >> 4) as usize
    }
}

/// A value looked at.
#[derive(Clone, Debug, PartialEq)]
pub enum Node<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'a, str>),
    List(&'a [Val]),
    Tuple(&'a [Val]),
    Dict,
    Opaque,
}

/// Where a dict's keys and values stand: a run of `slab` whose keys are a shape's, or pairs of its own.
#[derive(Clone, Copy, Debug)]
struct Dict {
    shape: u32,
    at: u32,
}

/// A dict that is not one run.
const PAIRS: u32 = u32::MAX;

/// Everything that a pickle holds.
#[derive(Debug)]
pub struct Tree {
    pub(super) root: Val,
    pub(super) texts: Vec<u8>,
    /// Where each text begins and ends in `texts`.
    spans: Vec<(u64, u32)>,
    short: HashMap<Box<[u8]>, Val>,
    wide: Vec<i64>,
    floats: Vec<f64>,
    lists: Vec<Vec<Val>>,
    dicts: Vec<Dict>,
    slab: Vec<Val>,
    pairs: Vec<Vec<Val>>,
    shapes: Vec<Box<[Val]>>,
    shape_of: HashMap<Box<[Val]>, u32>,
    /// Bytes of what lies behind lists, shapes and short texts.
    behind: u64,
}

/// Texts up to this length are kept once: keys, actions, names of functions.
const SHORT: usize = 40;

impl Default for Tree {
    fn default() -> Self {
        Self {
            root: Val::NONE,
            texts: Vec::new(),
            spans: Vec::new(),
            short: HashMap::new(),
            wide: Vec::new(),
            floats: Vec::new(),
            lists: Vec::new(),
            dicts: Vec::new(),
            slab: Vec::new(),
            pairs: Vec::new(),
            shapes: vec![Box::default()],
            shape_of: HashMap::from([(Box::default(), 0)]),
            behind: 0,
        }
    }
}

impl Tree {
    pub fn root(&self) -> Val {
        self.root
    }

    /// Bytes in use.
    pub fn kept(&self) -> u64 {
        let counts = 16 * self.spans.len()
            + 8 * (self.wide.len() + self.floats.len() + self.dicts.len() + self.slab.len())
            + 24 * (self.lists.len() + self.pairs.len())
            + self.texts.len();
        counts as u64 + self.behind
    }

    pub fn node(&self, val: Val) -> Node<'_> {
        match val.kind() {
            INT => Node::Int(val.0 as i64 >> 4),
            WIDE => self.wide.get(val.place()).map_or(Node::Opaque, |n| Node::Int(*n)),
            FLOAT => self.floats.get(val.place()).map_or(Node::Opaque, |n| Node::Float(*n)),
            TEXT => self.text(val).map_or(Node::Opaque, Node::Text),
            LIST => self.lists.get(val.place()).map_or(Node::Opaque, |l| Node::List(l)),
            TUPLE => self.lists.get(val.place()).map_or(Node::Opaque, |l| Node::Tuple(l)),
            DICT => Node::Dict,
            _ if val == Val::NONE => Node::None,
            _ if val == Val::TRUE => Node::Bool(true),
            _ if val == Val::FALSE => Node::Bool(false),
            _ => Node::Opaque,
        }
    }

    pub fn text(&self, val: Val) -> Option<Cow<'_, str>> {
        if val.kind() != TEXT {
            return None;
        }
        let (from, length) = *self.spans.get(val.place())?;
        let bytes = self.texts.get(from as usize..from as usize + length as usize)?;
        Some(String::from_utf8_lossy(bytes))
    }

    /// The items of a list or tuple.
    pub fn items(&self, val: Val) -> Option<&[Val]> {
        match self.node(val) {
            Node::List(items) | Node::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// The key of dicts that reads so; `None` when no text of the pickle does.
    pub fn key(&self, name: &str) -> Option<Val> {
        self.short.get(name.as_bytes()).copied()
    }

    /// What stands under a key of a dict.
    pub fn get(&self, dict: Val, key: Option<Val>) -> Option<Val> {
        let key = key?;
        if dict.kind() != DICT {
            return None;
        }
        let dict = self.dicts.get(dict.place())?;
        if dict.shape == PAIRS {
            let pairs = self.pairs.get(dict.at as usize)?;
            return pairs.rchunks_exact(2).find(|pair| pair[0] == key).map(|pair| pair[1]);
        }
        let nth = self.shapes.get(dict.shape as usize)?.iter().rposition(|k| *k == key)?;
        self.slab.get(dict.at as usize + nth).copied()
    }

    pub(super) fn int(&mut self, number: i64) -> Val {
        if (number << 4) >> 4 == number {
            return Val(((number << 4) as u64) | INT);
        }
        self.wide.push(number);
        Val::at(WIDE, self.wide.len() - 1)
    }

    pub(super) fn float(&mut self, number: f64) -> Val {
        self.floats.push(number);
        Val::at(FLOAT, self.floats.len() - 1)
    }

    pub(super) fn put_text(&mut self, text: &[u8]) -> Val {
        let from = self.texts.len();
        self.texts.extend_from_slice(text);
        self.seal_text(from)
    }

    /// The bytes of `texts` from here on are one text.
    pub(super) fn seal_text(&mut self, from: usize) -> Val {
        let text = &self.texts[from..];
        let short = text.len() <= SHORT;
        if short && let Some(known) = self.short.get(text) {
            let known = *known;
            self.texts.truncate(from);
            return known;
        }
        let val = Val::at(TEXT, self.spans.len());
        self.spans.push((from as u64, text.len() as u32));
        if short {
            self.behind += 64 + text.len() as u64;
            self.short.insert(text.into(), val);
        }
        val
    }

    pub(super) fn sequence(&mut self, items: Vec<Val>, tuple: bool) -> Val {
        self.behind += 16 + 8 * items.capacity() as u64;
        self.lists.push(items);
        Val::at(if tuple { TUPLE } else { LIST }, self.lists.len() - 1)
    }

    /// Whether it was a list.
    pub(super) fn append(&mut self, list: Val, items: &[Val]) -> bool {
        match self.lists.get_mut(list.place()).filter(|_| list.kind() == LIST) {
            Some(list) => {
                let before = list.capacity();
                list.extend_from_slice(items);
                self.behind += 8 * (list.capacity() - before) as u64;
                true
            }
            None => false,
        }
    }

    pub(super) fn dict(&mut self) -> Val {
        self.dicts.push(Dict { shape: 0, at: 0 });
        Val::at(DICT, self.dicts.len() - 1)
    }

    /// Puts keys and values, one after the other, into a dict; whether it was one.
    pub(super) fn set(&mut self, dict: Val, items: &[Val]) -> bool {
        let place = dict.place();
        let Some(old) = self.dicts.get(place).copied().filter(|_| dict.kind() == DICT) else { return false };
        if items.is_empty() {
            return true;
        }
        let few = old.shape == 0 && items.len() <= 64 && items.iter().step_by(2).all(|key| key.kind() == TEXT);
        if few && let Ok(at) = u32::try_from(self.slab.len()) {
            let keys: Vec<Val> = items.iter().step_by(2).copied().collect();
            let shape = if let Some(known) = self.shape_of.get(keys.as_slice()) {
                *known
            } else {
                let new = self.shapes.len() as u32;
                self.behind += 2 * (48 + 8 * keys.len() as u64);
                self.shapes.push(keys.as_slice().into());
                self.shape_of.insert(keys.into(), new);
                new
            };
            self.slab.extend(items.iter().skip(1).step_by(2));
            self.dicts[place] = Dict { shape, at };
            return true;
        }
        let at = if old.shape == PAIRS {
            old.at as usize
        } else {
            let keys = &self.shapes[old.shape as usize];
            let values = &self.slab[old.at as usize..];
            let pairs: Vec<Val> = keys.iter().zip(values).flat_map(|(k, v)| [*k, *v]).collect();
            self.behind += 8 * pairs.capacity() as u64;
            self.pairs.push(pairs);
            self.pairs.len() - 1
        };
        let before = self.pairs[at].capacity();
        self.pairs[at].extend_from_slice(items);
        self.behind += 8 * (self.pairs[at].capacity() - before) as u64;
        self.dicts[place] = Dict { shape: PAIRS, at: at as u32 };
        true
    }
}

//! Reads the literals of a Python script. Nothing is run: names, numbers, strings and dictionaries are all it knows.

use std::{collections::BTreeMap, sync::LazyLock};

use regex::Regex;

use crate::model::{Clean, knobs::Value};

/// Calls whose arguments are settings, and the method that their name tells.
static CALLS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\b(?<name>(?:GRPO|SFT|DPO|KTO|RLOO|PPO|Reward|ORPO|CPO)Config|(?:Seq2Seq)?TrainingArguments|LoraConfig|BitsAndBytesConfig|(?:\w+\.)?from_pretrained|get_peft_model|(?:\w+\.)?LLM|(?:\w+\.)*\w*Trainer)\(").expect("tested")
});
static ASSIGNED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"(?m)^\s*(?<name>[A-Za-z_]\w*)\s*(?::[^=\n]+)?=\s*(?<value>"[^"\n]*"|'[^'\n]*'|[\w.+-]+)\s*(?:#.*)?$"#)
        .expect("tested")
});
static ARGUMENT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"(?:(?<name>[A-Za-z_]\w*)\s*=\s*|["'](?<key>[A-Za-z_]\w*)["']\s*:\s*)(?<value>\[[^\]]*\]|"[^"]*"|'[^']*'|[\w.+-]+)"#).expect("tested")
});
static FIRST: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"^\s*(?<value>"[^"]*"|'[^']*'|[A-Za-z_]\w*)\s*(?:,|$)"#).expect("tested"));

/// Keys and values of every call that configures a training.
pub fn settings(text: &str) -> Vec<(String, Value)> {
    let names: BTreeMap<&str, &str> = ASSIGNED
        .captures_iter(text)
        .filter_map(|c| Some((c.name("name")?.as_str(), c.name("value")?.as_str())))
        .collect();
    let resolve = |raw: &str| -> Value {
        let raw = raw.trim();
        let raw = names.get(raw).copied().unwrap_or(raw);
        if let Some(list) = raw.strip_prefix('[') {
            let items: Vec<&str> = list
                .trim_end_matches(']')
                .split(',')
                .map(|i| i.trim().trim_matches(['"', '\'']))
                .filter(|i| !i.is_empty())
                .collect();
            return Value::Text(Clean::new(&items.join(",")));
        }
        Value::guess(raw)
    };
    let mut all = Vec::new();
    let of_trl = CALLS.captures_iter(text).any(|c| {
        c.name("name").is_some_and(|n| {
            n.as_str().ends_with("Config") && !n.as_str().starts_with("Lora") && !n.as_str().starts_with("BitsAnd")
        })
    });
    for call in CALLS.captures_iter(text) {
        let (Some(whole), Some(name)) = (call.get(0), call.name("name")) else { continue };
        let body = arguments(&text[whole.end()..]);
        let name = name.as_str();
        if let Some(method) =
            name.strip_suffix("Config").filter(|m| m.chars().all(|c| c.is_ascii_uppercase()) || *m == "Reward")
        {
            all.push(("method".to_string(), Value::Text(Clean::new(&method.to_ascii_lowercase()))));
            all.push(("trainer".to_string(), Value::Text("trl".into())));
        }
        if name.ends_with("TrainingArguments") && !of_trl {
            all.push(("trainer".to_string(), Value::Text("transformers".into())));
        }
        if name.ends_with("from_pretrained")
            && let Some(first) = FIRST.captures(body).and_then(|c| c.name("value"))
            && let Value::Text(model) = resolve(first.as_str())
            && !model.as_str().contains("okeniz")
        {
            all.push(("model_name_or_path".to_string(), Value::Text(model)));
        }
        for argument in ARGUMENT.captures_iter(body) {
            let Some(key) = argument.name("name").or(argument.name("key")) else { continue };
            let Some(value) = argument.name("value") else { continue };
            let key = if name == "LoraConfig" && key.as_str() == "r" { "lora_r" } else { key.as_str() };
            // A trainer is given a model's name or a model: a variable that holds no text names none.
            let named = || names.get(value.as_str()).copied().unwrap_or(value.as_str()).starts_with(['"', '\'']);
            let key = match key {
                "model" if name.ends_with("Trainer") && named() => "model_name_or_path",
                "model" if name.ends_with("Trainer") => continue,
                key => key,
            };
            all.push((key.to_string(), resolve(value.as_str())));
        }
    }
    all
}

/// The text up to the closing bracket of a call, comments taken out of consideration.
fn arguments(text: &str) -> &str {
    let (mut depth, mut quote, mut comment) = (1, None, false);
    for (at, c) in text.char_indices().take(20_000) {
        match (quote, c) {
            _ if comment => comment = c != '\n',
            (Some(q), c) if c == q => quote = None,
            (None, '#') => comment = true,
            (None, '"' | '\'') => quote = Some(c),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => {
                depth -= 1;
                if depth == 0 {
                    return &text[..at];
                }
            }
            _ => {}
        }
    }
    ""
}

//! Architectures of well-known models, embedded.

use crate::model::architecture::Architecture;

/// One `config.json` a line, cut down to the fields that decide the size.
const MODELS: &str = include_str!("models.jsonl");

/// Endings of names that share an architecture with the base model.
const ENDINGS: &[&str] = &[
    "-instruct",
    "-base",
    "-it",
    "-chat",
    "-hf",
    "-pt",
    "-bnb-4bit",
    "-unsloth",
    "-gptq",
    "-awq",
    "-2507",
    "-thinking",
    "-v1.0",
    "-v0.1",
    "-v0.2",
    "-v0.3",
    "-math",
    "-coder",
];

/// Every embedded model.
pub fn all() -> impl Iterator<Item = Architecture> {
    MODELS.lines().filter_map(|line| Architecture::from_config_json("", line).ok())
}

/// The model that a name, a Hub id or a path means; endings such as `-Instruct` do not matter.
pub fn find(name: &str) -> Option<Architecture> {
    let wanted = name.trim_end_matches('/').rsplit(['/', '\\']).next().unwrap_or(name).to_ascii_lowercase();
    let wanted = wanted.strip_prefix("models--").unwrap_or(&wanted).to_string();
    let exact = |w: &str| all().find(|m| last(m.name.as_str()) == w);
    exact(&wanted).or_else(|| {
        let bare = strip(&wanted);
        exact(&bare).or_else(|| all().find(|m| strip(&last(m.name.as_str())) == bare))
    })
}

fn last(name: &str) -> String {
    name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase()
}

fn strip(name: &str) -> String {
    let mut name = name.replace("meta-", "");
    while let Some(end) = ENDINGS.iter().find(|e| name.ends_with(**e) && name.len() > e.len() + 3) {
        name.truncate(name.len() - end.len());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_counts_are_the_published_ones() {
        for (name, want) in [
            ("Qwen/Qwen2.5-0.5B", 494_032_768),
            ("Qwen/Qwen2.5-1.5B", 1_543_714_304),
            ("Qwen/Qwen2.5-3B", 3_085_938_688),
            ("Qwen/Qwen2.5-7B", 7_615_616_512),
            ("Qwen/Qwen2.5-14B", 14_770_033_664),
            ("Qwen/Qwen2.5-32B", 32_763_876_352),
            ("Qwen/Qwen2.5-72B", 72_706_203_648),
            ("Qwen/Qwen3-0.6B", 596_049_920),
            ("Qwen/Qwen3-1.7B", 1_720_574_976),
            ("Qwen/Qwen3-4B", 4_022_468_096),
            ("Qwen/Qwen3-8B", 8_190_735_360),
            ("Qwen/Qwen3-14B", 14_768_307_200),
            ("Qwen/Qwen3-32B", 32_762_123_264),
            ("Qwen/Qwen3-30B-A3B", 30_532_122_624),
            ("meta-llama/Llama-3.2-1B", 1_235_814_400),
            ("meta-llama/Llama-3.2-3B", 3_212_749_824),
            ("meta-llama/Llama-3.1-8B", 8_030_261_248),
            ("meta-llama/Llama-3.1-70B", 70_553_706_496),
            ("meta-llama/Llama-2-7b-hf", 6_738_415_616),
            ("meta-llama/Llama-2-13b-hf", 13_015_864_320),
            ("mistralai/Mistral-7B-v0.1", 7_241_732_096),
            ("mistralai/Mixtral-8x7B-v0.1", 46_702_792_704),
            ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", 1_100_048_384),
            ("HuggingFaceTB/SmolLM2-135M", 134_515_008),
            ("HuggingFaceTB/SmolLM2-360M", 361_821_120),
            ("HuggingFaceTB/SmolLM2-1.7B", 1_711_376_384),
            ("google/gemma-2-2b", 2_614_341_888),
            ("google/gemma-2-9b", 9_241_705_984),
            ("google/gemma-3-1b-it", 999_885_952),
            ("microsoft/Phi-3-mini-4k-instruct", 3_821_079_552),
            ("microsoft/phi-4", 14_659_507_200),
            ("allenai/OLMo-2-1124-7B", 7_298_617_344),
            ("openai-community/gpt2", 124_439_808),
            ("openai-community/gpt2-xl", 1_557_611_200),
        ] {
            let model = find(name).unwrap_or_else(|| panic!("{name} is not embedded"));
            assert_eq!(model.parameters(), want, "{name}");
        }
    }

    #[test]
    fn names_are_found_as_people_write_them() {
        for (name, want) in [
            ("Qwen2.5-1.5B-Instruct", "Qwen/Qwen2.5-1.5B"),
            ("/data/models/meta-llama/Meta-Llama-3.1-8B-Instruct/", "meta-llama/Llama-3.1-8B"),
            ("unsloth/Qwen2.5-7B-Instruct-bnb-4bit", "Qwen/Qwen2.5-7B"),
            ("google/gemma-2-2b-it", "google/gemma-2-2b"),
            ("gpt2", "openai-community/gpt2"),
        ] {
            assert_eq!(find(name).map(|m| m.name.to_string()).as_deref(), Some(want), "{name}");
        }
        assert!(find("acme/unheard-of-9B").is_none());
    }
}

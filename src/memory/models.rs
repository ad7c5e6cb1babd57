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

/// Words in names of models that have more than the language model whose name they also hold.
const OTHER_KINDS: &[&str] = &["-vl", "vision", "omni", "audio", "llava", "embed", "rerank", "moe", "vlm", "mamba"];

/// The model that a name, a Hub id, a path or a component of torchtune means; endings such as `-Instruct` do not
/// matter. A fine-tune that has its base in its name is that base.
pub fn find(name: &str) -> Option<Architecture> {
    let wanted = last(name);
    let exact = |w: &str| all().find(|m| last(m.name.as_str()) == w);
    let bare = strip(&wanted);
    exact(&wanted)
        .or_else(|| exact(&bare))
        .or_else(|| all().find(|m| strip(&last(m.name.as_str())) == bare))
        .or_else(|| component(&wanted))
        .or_else(|| contained(&bare))
}

/// Whether a model was found by a part of its name alone.
pub fn is_likeness(name: &str, found: &Architecture) -> bool {
    let bare = strip(&last(name));
    let own = strip(&last(found.name.as_str()));
    bare != own && contained(&bare).is_some_and(|m| strip(&last(m.name.as_str())) == own)
}

/// The longest embedded name that stands between whole words of another.
fn contained(bare: &str) -> Option<Architecture> {
    if OTHER_KINDS.iter().any(|kind| bare.contains(kind)) {
        return None;
    }
    let within = |own: &str| {
        bare.match_indices(own).any(|(at, _)| {
            let edge = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '.');
            edge(bare[..at].chars().next_back()) && edge(bare[at + own.len()..].chars().next())
        })
    };
    // A family's name without a size says nothing.
    let sized = |own: &str| own.contains(|c: char| c.is_ascii_digit()) && own.len() > 6;
    all()
        .map(|m| (strip(&last(m.name.as_str())), m))
        .filter(|(own, _)| sized(own) && within(own))
        .reduce(|best, next| if next.0.len() > best.0.len() { next } else { best })
        .map(|(_, m)| m)
}

/// torchtune names a model by the function that builds it: `torchtune.models.llama3_1.lora_llama3_1_8b`.
fn component(wanted: &str) -> Option<Architecture> {
    let function = wanted.rsplit('.').next()?;
    let function = function.trim_start_matches("lora_").trim_start_matches("qlora_").trim_start_matches("dora_");
    let squeezed = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    let own = squeezed(&strip(&function.replace('_', "-")));
    all().find(|m| squeezed(&strip(&last(m.name.as_str()))) == own)
}

/// The last part of a path or a Hub id, in lower case.
fn last(name: &str) -> String {
    let name = name.trim_end_matches('/');
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name).to_ascii_lowercase();
    let name = name.strip_prefix("models--").unwrap_or(&name);
    name.rsplit("--").next().unwrap_or(name).to_string()
}

fn strip(name: &str) -> String {
    // Specialised from the same shape.
    let mut name = name.replace("meta-", "").replace("-coder-", "-").replace("-math-", "-");
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
            ("meta-llama/Meta-Llama-3-8B", 8_030_261_248),
            ("meta-llama/Meta-Llama-3-70B", 70_553_706_496),
            ("meta-llama/Llama-3.3-70B-Instruct", 70_553_706_496),
            ("meta-llama/Llama-2-70b-hf", 68_976_648_192),
            ("meta-llama/CodeLlama-7b-hf", 6_738_546_688),
            ("meta-llama/CodeLlama-13b-hf", 13_016_028_160),
            ("meta-llama/CodeLlama-34b-hf", 33_743_970_304),
            ("lmsys/vicuna-7b-v1.5", 6_738_415_616),
            ("lmsys/vicuna-13b-v1.5", 13_015_864_320),
            ("Qwen/Qwen1.5-0.5B", 463_987_712),
            ("Qwen/Qwen1.5-1.8B", 1_836_828_672),
            ("Qwen/Qwen1.5-7B", 7_721_324_544),
            ("Qwen/Qwen2-0.5B", 494_032_768),
            ("Qwen/Qwen2-1.5B", 1_543_714_304),
            ("Qwen/Qwen2-7B", 7_615_616_512),
            ("Qwen/Qwen2-72B", 72_706_203_648),
            ("Qwen/Qwen3-235B-A22B", 235_093_634_560),
            ("google/gemma-2b", 2_506_172_416),
            ("google/gemma-7b", 8_537_680_896),
            ("google/gemma-3-270m", 268_098_176),
            ("mistralai/Mistral-Nemo-Base-2407", 12_247_782_400),
            ("mistralai/Mistral-Small-24B-Base-2501", 23_572_403_200),
            ("mistralai/Ministral-8B-Instruct-2410", 8_019_808_256),
            ("mistralai/Mixtral-8x22B-v0.1", 140_620_634_112),
            ("HuggingFaceH4/zephyr-7b-beta", 7_241_732_096),
            ("upstage/SOLAR-10.7B-v1.0", 10_731_524_096),
            ("deepseek-ai/deepseek-llm-7b-base", 6_910_365_696),
            ("deepseek-ai/deepseek-math-7b-base", 6_910_365_696),
            ("deepseek-ai/deepseek-coder-1.3b-base", 1_346_471_936),
            ("deepseek-ai/deepseek-coder-6.7b-base", 6_740_512_768),
            ("deepseek-ai/deepseek-coder-33b-base", 33_342_991_360),
            ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", 70_553_706_496),
            ("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", 8_190_735_360),
            ("openai/gpt-oss-20b", 20_914_757_184),
            ("openai/gpt-oss-120b", 116_829_156_672),
            ("tiiuae/falcon-7b", 6_921_720_704),
            ("tiiuae/Falcon3-1B-Base", 1_669_408_768),
            ("tiiuae/Falcon3-7B-Base", 7_455_550_464),
            ("EleutherAI/pythia-410m", 405_334_016),
            ("EleutherAI/pythia-1.4b", 1_414_647_808),
            ("EleutherAI/pythia-6.9b", 6_857_302_016),
            ("bigcode/starcoder2-3b", 3_030_371_328),
            ("microsoft/phi-2", 2_779_683_840),
            ("microsoft/phi-1_5", 1_418_270_720),
            ("microsoft/Phi-3-medium-4k-instruct", 13_960_238_080),
            ("microsoft/Phi-3.5-mini-instruct", 3_821_079_552),
            ("HuggingFaceTB/SmolLM-135M", 134_515_008),
            ("HuggingFaceTB/SmolLM-360M", 361_821_120),
            ("HuggingFaceTB/SmolLM-1.7B", 1_711_376_384),
            ("ibm-granite/granite-3.1-2b-instruct", 2_533_531_648),
            ("ibm-granite/granite-3.1-8b-instruct", 8_170_848_256),
            ("01-ai/Yi-6B", 6_061_035_520),
            ("01-ai/Yi-1.5-9B", 8_829_407_232),
            ("01-ai/Yi-34B", 34_388_917_248),
            ("internlm/internlm2_5-7b-chat", 7_737_708_544),
            ("stabilityai/stablelm-2-1_6b", 1_644_515_328),
            ("allenai/OLMo-2-0325-32B", 32_234_279_936),
            ("allenai/OLMo-1B-hf", 1_176_764_416),
            ("allenai/OLMoE-1B-7B-0924", 6_919_161_856),
            ("facebook/opt-125m", 125_239_296),
            ("facebook/opt-1.3b", 1_315_758_080),
            ("bigscience/bloom-560m", 559_214_592),
            ("openai-community/gpt2-large", 774_030_080),
            ("mosaicml/mpt-7b", 6_649_286_656),
            ("zai-org/GLM-4-9B-0414", 9_400_279_040),
            ("allenai/OLMo-2-0425-1B", 1_484_916_736),
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
            ("meta-llama/Meta-Llama-3-8B-Instruct", "meta-llama/Meta-Llama-3-8B"),
            ("Qwen/Qwen2.5-Coder-7B-Instruct", "Qwen/Qwen2.5-7B"),
            ("Qwen/Qwen2.5-Math-7B", "Qwen/Qwen2.5-7B"),
            ("Qwen/Qwen3-4B-Instruct-2507", "Qwen/Qwen3-4B"),
            ("models--Qwen--Qwen2-7B", "Qwen/Qwen2-7B"),
            ("NousResearch/Hermes-3-Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
            ("teknium/OpenHermes-2.5-Mistral-7B", "mistralai/Mistral-7B-v0.1"),
            ("torchtune.models.llama3_1.lora_llama3_1_8b", "meta-llama/Llama-3.1-8B"),
            ("torchtune.models.qwen2_5.qwen2_5_7b_instruct", "Qwen/Qwen2.5-7B"),
            ("torchtune.models.llama2.llama2_7b", "meta-llama/Llama-2-7b-hf"),
        ] {
            assert_eq!(find(name).map(|m| m.name.to_string()).as_deref(), Some(want), "{name}");
        }
        for name in [
            "acme/unheard-of-9B",
            "Qwen/Qwen2.5-VL-7B-Instruct",
            "llava-hf/llava-v1.6-mistral-7b-hf",
            "Qwen",
            "my-model",
        ] {
            assert_eq!(find(name).map(|m| m.name.to_string()), None, "{name}");
        }
    }
}

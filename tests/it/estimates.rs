//! The table of model sizes and ways to train, for the cards that people have.

use std::process::Command;

use assert_cmd::cargo::CommandCargoExt;

/// The verdict of each cell, a row a model: `true` where it fits.
fn table(args: &[&str]) -> Vec<(String, Vec<bool>)> {
    let mut command = Command::cargo_bin("oomph").unwrap();
    let output = command.args(["estimate", "--table"]).args(args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let rows: Vec<_> = text
        .lines()
        .skip(1)
        .take_while(|line| !line.is_empty())
        .map(|line| {
            let (name, cells) = line.split_at(16);
            let mut fits = Vec::new();
            for word in cells.split_whitespace() {
                match word {
                    "✗" | "~" => *fits.last_mut().unwrap() = false,
                    figure => {
                        assert!(figure.parse::<f64>().unwrap() > 0.0, "{line}");
                        fits.push(true);
                    }
                }
            }
            assert_eq!(fits.len(), 6, "{line}");
            (name.trim().to_string(), fits)
        })
        .collect();
    assert_eq!(rows.len(), 7, "{text}");
    rows
}

/// "GRPO VRAM Requirements For the GPU Poor" (Oxen.ai, 2025): peaks of one H100 with 80 GB, first 100 steps of GSM8K on
/// TRL 0.14. One cell differs, and `docs/memory.md` says why.
#[test]
fn the_published_verdicts_of_an_h100_come_out() {
    let article = "--method grpo --gpu-memory 80GB --set trl_version=0.14.0 --set transformers_version=4.48.3 --set \
                   per_device_train_batch_size=1 --set num_generations=4 --set prompt_length=256 --set \
                   max_completion_length=786 --set beta=0.04";
    let rows = table(&article.split_whitespace().collect::<Vec<_>>());
    let published: [(&str, [bool; 4]); 5] = [
        ("Qwen2.5-0.5B", [true, true, true, true]),
        ("Llama-3.2-1B", [true, true, true, true]),
        ("Llama-3.2-3B", [true, true, true, true]),
        ("Llama-3.1-8B", [false, false, true, true]),
        ("Qwen2.5-14B", [false, false, false, true]),
    ];
    let mut differs = Vec::new();
    for (name, want) in published {
        let (_, got) = rows.iter().find(|(row, _)| row == name).unwrap();
        for (way, (got, want)) in got.iter().zip(want).enumerate() {
            if *got != want {
                differs.push((name, way));
            }
        }
    }
    assert_eq!(differs, [("Qwen2.5-14B", 3)]);
}

#[test]
fn what_fits_a_card_fits_a_larger_one() {
    for method in ["grpo", "sft", "dpo"] {
        let cards = ["T4", "RTX 4090", "A100 40GB", "L40S", "H100", "H200"];
        let fit: Vec<Vec<bool>> = cards
            .iter()
            .map(|card| table(&["--method", method, "--gpu", card]).into_iter().flat_map(|(_, fits)| fits).collect())
            .collect();
        for (small, large) in fit.iter().zip(&fit[1..]) {
            assert!(small.iter().zip(large).all(|(small, large)| *large || !small), "{method}: {fit:?}");
        }
        let count = |fits: &Vec<bool>| fits.iter().filter(|fits| **fits).count();
        let (least, most) = (count(&fit[0]), count(fit.last().unwrap()));
        assert!(least > 4 && most > least + 10, "{method}: {least} on the smallest, {most} on the largest");
    }
}

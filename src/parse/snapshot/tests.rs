use super::*;
use crate::model::snapshot::Owner;

/// Writes the values that a snapshot is made of, as a pickle of protocol 2 without a memo.
enum Py<'a> {
    Int(i64),
    Text(&'a str),
    List(Vec<Py<'a>>),
    Dict(Vec<(&'a str, Py<'a>)>),
}

impl Py<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Py::Int(n) => {
                out.extend([0x8a, 8]);
                out.extend(n.to_le_bytes());
            }
            Py::Text(text) => {
                out.push(b'X');
                out.extend((text.len() as u32).to_le_bytes());
                out.extend(text.as_bytes());
            }
            Py::List(items) => {
                out.extend(b"](");
                for item in items {
                    item.write(out);
                }
                out.push(b'e');
            }
            Py::Dict(items) => {
                out.extend(b"}(");
                for (key, value) in items {
                    Py::Text(key).write(out);
                    value.write(out);
                }
                out.push(b'u');
            }
        }
    }

    fn pickle(&self) -> Vec<u8> {
        let mut out = vec![0x80, 2];
        self.write(&mut out);
        out.push(b'.');
        out
    }
}

fn frames<'a>(frames: &[(&'a str, &'a str)]) -> Py<'a> {
    let frame = |(file, name): &(&'a str, &'a str)| {
        Py::Dict(vec![("filename", Py::Text(file)), ("name", Py::Text(name)), ("line", Py::Int(7))])
    };
    Py::List(frames.iter().map(frame).collect())
}

fn block<'a>(size: i64, state: &'a str, stack: Py<'a>) -> Py<'a> {
    Py::Dict(vec![
        ("size", Py::Int(size)),
        ("requested_size", Py::Int(size - 12)),
        ("state", Py::Text(state)),
        ("frames", stack),
    ])
}

fn segment(device: i64, size: i64, blocks: Vec<Py<'_>>) -> Py<'_> {
    Py::Dict(vec![
        ("device", Py::Int(device)),
        ("address", Py::Int(1 << 44)),
        ("total_size", Py::Int(size)),
        ("stream", Py::Int(0)),
        ("segment_type", Py::Text("large")),
        ("blocks", Py::List(blocks)),
    ])
}

fn refused(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

#[test]
fn segments_blocks_and_events() {
    let stack = || {
        frames(&[("/v/lib/python3.12/site-packages/torch/nn/modules/linear.py", "forward"), ("/u/train.py", "main")])
    };
    let event = |action, key, at| {
        Py::Dict(vec![
            ("action", Py::Text(action)),
            (key, Py::Int(at)),
            ("size", Py::Int(512)),
            ("time_us", Py::Int(5)),
            ("frames", stack()),
        ])
    };
    let root = Py::Dict(vec![
        (
            "segments",
            Py::List(vec![segment(
                1,
                4096,
                vec![
                    block(1024, "active_allocated", stack()),
                    block(2048, "active_pending_free", stack()),
                    block(1024, "inactive", Py::List(vec![])),
                ],
            )]),
        ),
        (
            "device_traces",
            Py::List(vec![
                Py::List(vec![]),
                Py::List(vec![
                    event("alloc", "addr", 9),
                    event("oom", "device_free", 77),
                    event("new_kind", "addr", 1),
                ]),
            ]),
        ),
    ]);
    let snapshot = read(root.pickle().as_slice()).unwrap();
    let [device] = snapshot.devices.as_slice() else { panic!("{:?}", snapshot.devices) };
    assert_eq!((device.index, device.segments.len(), device.events.len()), (1, 1, 3));
    let blocks = &device.segments[0].blocks;
    let seen: Vec<_> = blocks.iter().map(|b| (b.address - (1 << 44), b.size, b.requested, b.state)).collect();
    let want = [
        (0, 1024, 1012, BlockState::Allocated),
        (1024, 2048, 2036, BlockState::Pending),
        (3072, 1024, 1012, BlockState::Free),
    ];
    assert_eq!(seen, want);
    assert_eq!(device.events.iter().map(|e| e.action).collect::<Vec<_>>(), [Action::Alloc, Action::Oom, Action::Other]);
    assert_eq!(device.events[1].address, 77);
    // Equal stacks are one, wherever they were written.
    assert_eq!(snapshot.stacks.len(), 2);
    assert_eq!(snapshot.stacks[1].owner, Owner::Activations);
}

#[test]
fn an_old_snapshot_is_a_list_with_histories() {
    let latest =
        Py::Dict(vec![("real_size", Py::Int(900)), ("addr", Py::Int(1)), ("frames", frames(&[("/u/a.py", "f")]))]);
    let block = Py::Dict(vec![
        ("size", Py::Int(1024)),
        ("state", Py::Text("active_allocated")),
        ("history", Py::List(vec![latest])),
    ]);
    let snapshot = read(Py::List(vec![segment(0, 2048, vec![block])]).pickle().as_slice()).unwrap();
    let block = snapshot.devices[0].segments[0].blocks[0];
    assert_eq!((block.requested, snapshot.stacks[block.stack as usize].owner), (900, Owner::Other));
}

#[test]
fn what_is_no_snapshot_says_so() {
    let says = |value: Py<'_>, want: &str| {
        let got = refused(&value.pickle());
        assert!(got.contains(want), "{got}");
    };
    says(Py::Int(5), "neither a dict nor a list");
    says(Py::Dict(vec![("model", Py::Int(1))]), "neither segments nor device_traces");
    says(Py::List(vec![Py::Int(1), Py::Int(2)]), "neither segments nor events");
    says(Py::List(vec![]), "an empty list");
    assert!(refused(b"\x80\x02cos\nsystem\n.").contains("GLOBAL 'os.system'"));
    // One long list in many places would take the square of its length.
    let shared = b"}(X\x08\x00\x00\x00segments](X\x01\x00\x00\x00aeX\x0d\x00\x00\x00device_traces](](NNeq\x01h\x01eu.";
    assert!(refused(shared).contains("one list stands in several places"));
}

#[test]
fn sizes_beyond_any_card_are_no_sizes() {
    let root = Py::List(vec![
        segment(0, 1 << 60, vec![]),
        segment(0, -5, vec![]),
        segment(0, 4096, vec![block(i64::MAX, "inactive", Py::List(vec![]))]),
    ]);
    let snapshot = read(root.pickle().as_slice()).unwrap();
    assert_eq!((snapshot.devices[0].segments.len(), snapshot.passed_over), (1, 3));
}

#[test]
fn recognised_by_the_first_bytes() {
    for (bytes, want) in [
        (&b"\x80\x04\x95"[..], Some(true)),
        (b"\x80\x02}q\0", Some(true)),
        (b"\x80", None),
        (b"", None),
        (b"\x80\x09\x95", Some(false)),
        (b"{'loss': 1}", Some(false)),
        (b"\x80\x81\x82", Some(false)),
    ] {
        assert_eq!(recognise(bytes), want, "{bytes:?}");
    }
}

/// Owners by whole stacks, innermost frame first; C++ names without a file.
#[test]
fn a_stack_tells_whose_the_memory_is() {
    const T: &str = "/v/lib/python3.12/site-packages/torch/";
    const H: &str = "/v/lib/python3.12/site-packages/transformers/";
    let check = |stack: &[(&str, &str)], want: Owner, site: &str| {
        let paths: Vec<(String, &str)> = stack
            .iter()
            .map(|(file, name)| match file.split_once(':') {
                Some(("T", rest)) => (format!("{T}{rest}"), *name),
                Some(("H", rest)) => (format!("{H}{rest}"), *name),
                _ => ((*file).to_string(), *name),
            })
            .collect();
        let stack: Vec<(&str, &str)> = paths.iter().map(|(file, name)| (file.as_str(), *name)).collect();
        let root = Py::List(vec![segment(0, 4096, vec![block(1024, "active_allocated", frames(&stack))])]);
        let snapshot = read(root.pickle().as_slice()).unwrap();
        let id = snapshot.devices[0].segments[0].blocks[0].stack;
        let seen = &snapshot.stacks[id as usize];
        let shown = seen.site.map(|id| snapshot.frames[id as usize].function.to_string());
        assert_eq!((seen.owner, shown.as_deref()), (want, Some(site)), "{stack:?}");
    };
    let call = ("T:nn/modules/module.py", "_call_impl");
    let linear = ("T:nn/modules/linear.py", "forward");
    let head = ("H:models/qwen2/modeling_qwen2.py", "forward");
    let train = ("/u/train.py", "train");
    let engine = ("", "torch::autograd::Engine::evaluate_function(x)");
    check(&[linear, call, head, call, train], Owner::Logits, "forward");
    check(&[linear, call, head, call, head, call, train], Owner::Activations, "forward");
    check(
        &[("T:nn/functional.py", "embedding"), ("T:nn/modules/sparse.py", "forward"), call, head, call, train],
        Owner::Activations,
        "forward",
    );
    check(
        &[("T:nn/functional.py", "cross_entropy"), ("H:loss/loss_utils.py", "ForCausalLMLoss"), head, train],
        Owner::Logits,
        "ForCausalLMLoss",
    );
    check(
        &[("", "at::empty"), ("", "torch::autograd::generated::MmBackward0::apply(x)"), engine],
        Owner::Backward,
        "MmBackward0",
    );
    check(&[("", "torch::autograd::AccumulateGrad::apply(x)"), engine], Owner::Gradients, "AccumulateGrad");
    check(&[("/u/kernel.py", "backward"), ("T:autograd/function.py", "apply")], Owner::Backward, "backward");
    // Checkpointing: the forward pass anew within the engine, and the engine anew within that.
    let unpack = ("T:utils/checkpoint.py", "unpack_hook");
    check(&[linear, call, head, call, head, unpack, engine], Owner::Recomputed, "forward");
    check(&[("", "at::empty"), engine, ("T:utils/checkpoint.py", "backward"), engine, train], Owner::Backward, "train");
    check(
        &[("T:optim/adamw.py", "_init_group"), ("T:optim/optimizer.py", "wrapper"), train],
        Owner::OptimizerStates,
        "train",
    );
    check(&[("T:optim/adamw.py", "_multi_tensor_adamw"), train], Owner::OptimizerStep, "train");
    check(&[("T:nn/modules/module.py", "convert"), ("T:nn/modules/module.py", "to"), train], Owner::Weights, "train");
    check(&[("H:modeling_utils.py", "from_pretrained"), train], Owner::Weights, "from_pretrained");
    check(
        &[("/v/lib/python3.12/site-packages/peft/tuners/lora/layer.py", "update_layer"), train],
        Owner::Adapters,
        "update_layer",
    );
    check(
        &[("H:cache_utils.py", "update"), head, ("H:generation/utils.py", "_sample"), train],
        Owner::KvCache,
        "update",
    );
    check(&[linear, call, head, call, head, ("H:generation/utils.py", "_sample"), train], Owner::Generation, "forward");
    check(&[("", "at::cuda::getCurrentCUDABlasHandle()"), linear, train], Owner::Workspace, "train");
    check(&[("T:distributed/distributed_c10d.py", "all_gather_into_tensor"), train], Owner::Communication, "train");
    check(&[train], Owner::Other, "train");
}

proptest::proptest! {
    /// A snapshot cut or damaged anywhere gives an answer.
    #[test]
    fn damage_does_not_panic(at in 0usize..2000, byte: u8) {
        let stack = frames(&[("/u/train.py", "main")]);
        let mut bytes = Py::Dict(vec![("segments", Py::List(vec![segment(0, 4096, vec![block(1024, "inactive", stack)])]))]).pickle();
        let at = at % bytes.len();
        let _ = read(&bytes[..at]);
        bytes[at] = byte;
        let _ = read(bytes.as_slice());
    }
}

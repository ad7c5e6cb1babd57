//! # /dev/shm is too small
//!
//! ## What it is
//! Processes hand each other tensors through files in `/dev/shm`. Docker gives it 64 MB unless told otherwise, and a write
//! past the end is a bus error.
//!
//! ## What it looks for
//! `Bus error` of a DataLoader worker, `insufficient shared memory`, `unable to write to file </torch_…>`, NCCL's
//! `/dev/shm/nccl-…`, errno 28 beside multiprocessing, exit code -7.
//!
//! ## What would settle it
//! `df -h /dev/shm` in the container while the job runs.
//!
//! ## What helps
//! `raise_shm`, `reduce_dataloader_workers`.

use crate::model::failure::Memory;

use super::{Case, Verdict, found, message};

pub(super) fn check(case: &Case<'_>) -> Verdict {
    if case.incident.memory != Memory::Shm {
        return Verdict::Absent;
    }
    found(0.95, vec![message(case)], "/dev/shm is full: in Docker it has 64 MB unless told otherwise")
}

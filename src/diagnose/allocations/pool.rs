//! The allocator's pool at the end: what it holds, what of it is free, and in how large pieces.

use serde::Serialize;

use crate::model::snapshot::{BlockState, SnapshotDevice};

use super::Oom;

/// Sizes are bytes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Pool {
    pub reserved_bytes: u64,
    pub allocated_bytes: u64,
    /// What the tensors asked for, before rounding.
    pub requested_bytes: u64,
    /// Freed by the program, and still in use by another stream.
    pub pending_bytes: u64,
    /// Free in the pool, wherever.
    pub free_bytes: u64,
    pub largest_free_bytes: u64,
    pub free_blocks: u64,
    /// Of the free bytes: in segments that nothing uses, which the allocator gives back before it fails.
    pub releasable_bytes: u64,
    /// Of the free bytes: what a request above 1 MiB on the main stream cannot use.
    pub free_small_pool_bytes: u64,
    pub free_private_pool_bytes: u64,
    pub free_other_streams_bytes: u64,
    /// Free for the request that failed, or for a large one, in segments that something uses; and its largest piece.
    pub usable_bytes: u64,
    pub largest_usable_bytes: u64,
    pub segments: u64,
    pub private_segments: u64,
    pub expandable_segments: u64,
    /// The pool in the order of its addresses, for a picture.
    #[serde(skip)]
    pub map: Vec<SegmentPart>,
}

/// A stretch of the pool of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentPart {
    pub bytes: u64,
    pub free: bool,
    /// The first of its segment.
    pub first: bool,
}

impl Pool {
    /// How much of what is free for a large request lies outside its largest piece, from 0 to 1.
    pub fn fragmentation(&self) -> Option<f64> {
        (self.usable_bytes > 0).then(|| 1.0 - self.largest_usable_bytes as f64 / self.usable_bytes as f64)
    }
}

pub fn pool(device: &SnapshotDevice, oom: Option<&Oom>) -> Pool {
    let mut pool = Pool::default();
    let small = oom.is_some_and(|oom| oom.requested_bytes <= 1 << 20);
    let stream = oom.map(|oom| oom.stream);
    let mut segments: Vec<_> = device.segments.iter().collect();
    segments.sort_by_key(|s| s.address);
    for segment in segments {
        pool.segments += 1;
        pool.private_segments += u64::from(segment.private);
        pool.expandable_segments += u64::from(segment.expandable);
        pool.reserved_bytes += segment.size;
        let whole = !segment.blocks.is_empty() && segment.blocks.iter().all(|b| b.state == BlockState::Free);
        let mut first = true;
        for block in &segment.blocks {
            let free = block.state == BlockState::Free;
            match block.state {
                BlockState::Allocated => {
                    pool.allocated_bytes += block.size;
                    pool.requested_bytes += block.requested;
                }
                BlockState::Pending => pool.pending_bytes += block.size,
                BlockState::Free => {
                    pool.free_bytes += block.size;
                    pool.free_blocks += 1;
                    pool.largest_free_bytes = pool.largest_free_bytes.max(block.size);
                    if whole {
                        pool.releasable_bytes += block.size;
                    }
                    let other = if segment.private {
                        Some(&mut pool.free_private_pool_bytes)
                    } else if segment.small != small {
                        Some(&mut pool.free_small_pool_bytes)
                    } else if stream.is_some_and(|stream| stream != segment.stream) {
                        Some(&mut pool.free_other_streams_bytes)
                    } else {
                        None
                    };
                    if let Some(other) = other {
                        *other += block.size;
                    } else if !whole {
                        pool.usable_bytes += block.size;
                        pool.largest_usable_bytes = pool.largest_usable_bytes.max(block.size);
                    }
                }
            }
            match pool.map.last_mut().filter(|last| last.free == free && !first) {
                Some(last) => last.bytes += block.size,
                None => pool.map.push(SegmentPart { bytes: block.size, free, first }),
            }
            first = false;
        }
    }
    pool
}

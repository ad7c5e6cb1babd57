//! Where large blocks end up: PyTorch's caching allocator over two steps, in pieces as coarse as the logits.
//!
//! Logits stand in blocks of gibibytes. In the first step these are given back, and gradients and the optimizer's states
//! are cut from them; in the second step the states still lie there, no block is whole, and the logits are asked of the
//! driver again. How much that is no sum of tensors says; a walk through the order of requests does. Followed request by
//! request in the traces of 23 runs (`tests/gpu/case.py` writes them); the walk's error is in `constants.rs`.

/// Whose a piece is.
pub type Owner = u8;

/// What small blocks are of: what fits where the one stood need not fit where the other did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Activations,
    Weights,
}

/// A pool of segments. Activations, weights and their like stand in segments of their own, hardly larger than they are:
/// nothing large ever fits there, so that only their sum is kept.
#[derive(Debug, Default)]
pub struct Pool {
    /// Large segments, each a row of pieces; `None` is free.
    large: Vec<Vec<(f64, Option<Owner>)>>,
    /// All small segments, and what is free of them where activations and where weights stood.
    small: f64,
    loose: [f64; 2],
    /// What of the small segments is whose.
    held: Vec<(Owner, Kind, f64)>,
}

impl Pool {
    /// What the driver gave.
    pub fn reserved(&self) -> f64 {
        self.small + self.large.iter().flatten().map(|(bytes, _)| bytes).sum::<f64>()
    }

    /// One block as a whole: the smallest free piece that has room, or a new segment.
    pub fn take(&mut self, owner: Owner, bytes: f64) {
        if bytes <= 0.0 {
            return;
        }
        let free =
            self.large.iter().enumerate().flat_map(|(s, row)| row.iter().enumerate().map(move |(p, x)| (s, p, x)));
        let room = free
            .filter(|(.., (size, of))| of.is_none() && *size >= bytes)
            .min_by(|a, b| a.2.0.total_cmp(&b.2.0))
            .map(|(s, p, _)| (s, p));
        match room {
            Some((segment, piece)) => self.cut(segment, piece, owner, bytes),
            None => self.large.push(vec![(bytes, Some(owner))]),
        }
    }

    /// Many small blocks: into what is free of the small segments, then into the smallest free pieces of the large ones;
    /// the driver is asked for the rest. Of weights only a `share` fits where activations stood.
    pub fn pour(&mut self, owner: Owner, kind: Kind, bytes: f64, share: f64) {
        let mut left = bytes;
        let order =
            if kind == Kind::Weights { [Kind::Weights, Kind::Activations] } else { [Kind::Activations, Kind::Weights] };
        for place in order {
            let most = if kind == Kind::Weights && place == Kind::Activations { left * share } else { left };
            let taken = most.min(self.loose[place as usize]);
            self.loose[place as usize] -= taken;
            self.hold(owner, place, taken);
            left -= taken;
        }
        while left > 1.0 {
            let free =
                self.large.iter().enumerate().flat_map(|(s, row)| row.iter().enumerate().map(move |(p, x)| (s, p, x)));
            let smallest = free
                .filter(|(.., (size, of))| of.is_none() && *size > 1.0)
                .min_by(|a, b| a.2.0.total_cmp(&b.2.0))
                .map(|(s, p, (size, _))| (s, p, *size));
            let Some((segment, piece, size)) = smallest else {
                self.small += left;
                self.hold(owner, kind, left);
                return;
            };
            self.cut(segment, piece, owner, size.min(left));
            left -= size.min(left);
        }
    }

    fn hold(&mut self, owner: Owner, place: Kind, bytes: f64) {
        if bytes > 0.0 {
            self.held.push((owner, place, bytes));
        }
    }

    fn cut(&mut self, segment: usize, piece: usize, owner: Owner, bytes: f64) {
        let row = &mut self.large[segment];
        let rest = row[piece].0 - bytes;
        row[piece] = (bytes, Some(owner));
        if rest > 1.0 {
            row.insert(piece + 1, (rest, None));
        }
    }

    /// Gives back what lies scattered between the pieces of others: room for small blocks, never for a large one.
    pub fn scatter(&mut self, owner: Owner, others: Owner) {
        for piece in self.large.iter_mut().flatten().filter(|(_, of)| *of == Some(owner)) {
            piece.1 = Some(others);
            self.loose[Kind::Weights as usize] += piece.0;
        }
        self.free(owner);
    }

    /// Gives everything of an owner back; free neighbours become one.
    pub fn free(&mut self, owner: Owner) {
        for (_, place, bytes) in self.held.extract_if(.., |(of, ..)| *of == owner) {
            self.loose[place as usize] += bytes;
        }
        for row in &mut self.large {
            let mut merged: Vec<(f64, Option<Owner>)> = Vec::with_capacity(row.len());
            for (bytes, of) in row.drain(..) {
                let of = of.filter(|of| *of != owner);
                match merged.last_mut() {
                    Some((before, None)) if of.is_none() => *before += bytes,
                    _ => merged.push((bytes, of)),
                }
            }
            *row = merged;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_a_block_has_it_asked_for_again() {
        let mut pool = Pool::default();
        for owner in [1, 2] {
            pool.take(owner, 4.0e9);
        }
        pool.free(1);
        pool.free(2);
        assert_eq!(pool.reserved(), 8.0e9);
        // States are cut from the first block; the second is whole still.
        pool.pour(3, Kind::Weights, 1.0e9, 1.0);
        pool.take(1, 4.0e9);
        assert_eq!(pool.reserved(), 8.0e9);
        pool.take(2, 4.0e9);
        assert_eq!(pool.reserved(), 12.0e9);
        // Half a block goes into what is left of the first.
        pool.take(4, 2.0e9);
        assert_eq!(pool.reserved(), 12.0e9);
    }

    #[test]
    fn what_was_given_back_is_one_piece_again() {
        let mut pool = Pool::default();
        pool.take(1, 6.0e9);
        pool.free(1);
        for owner in [1, 2, 3] {
            pool.take(owner, 2.0e9);
        }
        for owner in [1, 3, 2] {
            pool.free(owner);
        }
        pool.take(1, 6.0e9);
        assert_eq!(pool.reserved(), 6.0e9);
        // Small blocks never make room for a large one.
        pool.pour(2, Kind::Weights, 3.0e9, 1.0);
        pool.free(2);
        pool.take(3, 2.0e9);
        assert_eq!(pool.reserved(), 11.0e9);
        pool.pour(4, Kind::Activations, 2.5e9, 1.0);
        assert_eq!(pool.reserved(), 11.0e9);
    }
}

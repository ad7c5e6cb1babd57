//! How far the job that is watched can still go on a card, from its own measured peak.

use crate::{
    memory::{
        self,
        live::{Headroom, Watched},
    },
    model::knobs::Knob,
};

use super::{Session, gpus::Gpu, holders::Owner};

/// After so many steps the optimizer's states exist and every phase of a step has been.
const STEPS: u64 = 3;

/// The headroom of the job on one card. `None` where its model or its peak is not known, or another job is described.
pub fn of(session: &Session, gpu: &Gpu) -> Option<Headroom> {
    session.step().filter(|step| *step >= STEPS)?;
    let knobs = session.knobs();
    let model = memory::models::find(knobs.str(Knob::Model)?)?;
    let owner = Owner::of(session);
    let now = owner.shares(gpu)?;
    let peak = owner.shares_at(gpu, gpu.at_peak.as_ref()?)?.job;
    let longest = session.metrics.series("completions/max_length").and_then(super::series::Series::min_max);
    let seen = Watched {
        peak: peak.0.max(now.job.0),
        room: (now.job + now.free).0,
        card: now.total.0,
        longest_completion: longest.map(|(_, most)| most.max(0.0) as u64),
    };
    memory::live::headroom(&model, knobs, &seen)
}

/// The card on which the job has least room, and its headroom there.
pub fn least(session: &Session) -> Option<(&Gpu, Headroom)> {
    let all = session.gpus.iter().filter_map(|gpu| Some((gpu, of(session, gpu)?)));
    all.min_by_key(|(_, headroom)| headroom.largest.first().map(|(_, most, _)| *most))
}

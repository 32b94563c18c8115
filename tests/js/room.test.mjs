import assert from "node:assert/strict";
import test from "node:test";

import { unpack } from "../../fmtutor/widgets/js/packing.js";
import { Planner, Room, followPlans, pushTo } from "../../fmtutor/widgets/js/room.js";
import { close, fixtures, revive } from "./fixtures.mjs";

const told = fixtures.room;
const { settings } = told;
const room = new Room(settings.room);
const weights = Object.entries(revive(told.learned));
const learned = Object.fromEntries(weights.map(([name, packed]) => [name, unpack(packed, name)]));
const planner = new Planner(learned, settings);

test("a ball moves, stops at walls, at the block and at its corners as in the package", () => {
  told.states.forEach((state, i) => {
    const ball = [...state];
    assert.equal(room.step(ball, told.actions[i]), told.touched[i], `ball ${i} at ${state}`);
    close(ball, told.moved[i], 1e-12, `ball ${i} at ${state}`);
  });
});

test("a spring and a brake push as in the package", () => {
  const pushes = told.states.map((state, i) => pushTo(state, told.target[i], told.speed[i]));
  close(pushes.flat(), told.pushes, 1e-12);
  assert.ok(pushes.flat().some((v) => Math.abs(v) === 1) && pushes.flat().some((v) => v ** 2 < 0.1));
});

told.episodes.forEach(({ plans, start, states, touching, reached, settings: how }, i) => {
  test(`an episode by given plans is that of follow_plans: ${i}`, () => {
    const run = followPlans((_, k) => plans[k], room, start, how);
    close(run.states.flat(), states, 1e-6);
    assert.deepEqual(run.touching, touching);
    assert.equal(run.reached, reached);
    assert.equal(run.steps, states.length - 1);
    assert.equal(run.decisions, Math.max(1, Math.ceil(run.steps / how.commitment)));
  });
});

test("the episodes are of all kinds", () => {
  const kinds = told.episodes.map(({ touching, reached }) => [touching.includes(true), reached]);
  for (const wanted of [[true, false], [false, true]])
    assert.ok(kinds.some((kind) => kind.every((v, i) => v === wanted[i])), String(wanted));
});

test("the networks that ship mean what they meant", () => {
  const { seen, x, t, average, velocities } = told.recorded;
  close(planner.average.of(Float64Array.from(seen.flat()), seen.length), average, 2e-5);
  x.forEach((point, i) => {
    close(planner.velocity(Float64Array.from(point), t, seen[i]), velocities[i], 2e-5);
  });
});

test("plans of the regression and of the flow are those of the package", () => {
  close(planner.mean(told.ball), told.mean, 1e-9, "the mean");
  const noise = Float64Array.from(told.noise);
  for (const [evaluations, plans] of Object.entries(told.drawn))
    close(planner.draw(told.ball, noise, Number(evaluations)), plans, 1e-9, `${evaluations} steps`);
});

test("weights and scales that do not fit are refused", () => {
  const short = (name) => ({ ...learned, [name]: learned[name].slice(1) });
  assert.throws(() => new Planner(short("flow"), settings), /layers of these sizes have/);
  assert.throws(() => new Planner(short("average"), settings), /layers of these sizes have/);
  assert.throws(() => new Planner(short("scales"), settings), /are no scales of plans of 64/);
});

test("a ball that leaves the numbers is an error", () => {
  const nowhere = () => new Float64Array(64).fill(NaN);
  const how = { commitment: 8, limit: 4, ticks: 4 };
  assert.throws(() => followPlans(nowhere, room, [0, -1.4, 0, 0], how), /left the numbers/);
});

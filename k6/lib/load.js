// How long, and what has to hold: the same thresholds at every scale.

export const SCALE = Number(__ENV.SCALE || 1);

// A duration of a scenario, shortened by SCALE. The shares of its parts stay as they are.
export function scaled(seconds) {
  return `${Math.round(seconds * SCALE * 1000)}ms`;
}

export const LATENCY = ['p(95)<500', 'p(99)<1000']; // milliseconds
export const ERRORS = ['rate<0.01'];

export const THRESHOLDS = {
  http_req_duration: LATENCY,
  http_req_failed: ERRORS,
  checks: ['rate>0.99'],
  mixed_up: ['count==0'],
};

export const TREND_STATS = ['avg', 'med', 'p(90)', 'p(95)', 'p(99)', 'max'];

// So many requests a second whether or not earlier ones were answered. Those that k6 had no user left for count as
// dropped, and with more than one in a hundred of them the rate was never that.
export function arrivals(rate, seconds, extra) {
  return Object.assign(
    {
      executor: 'constant-arrival-rate',
      rate,
      duration: scaled(seconds),
      preAllocatedVUs: rate,
      maxVUs: 10 * rate,
      gracefulStop: '10s',
    },
    extra,
  );
}

export function fewDropped(rate) {
  return { dropped_iterations: [`rate<${rate / 100}`] };
}

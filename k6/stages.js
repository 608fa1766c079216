// Users that come and go, each with a second between an answer and the next question; models in turn, by `/call`.
import { check, sleep } from 'k6';
import exec from 'k6/execution';
import { MODEL, header, post } from './lib/openai.js';
import { LATENCY, THRESHOLDS, TREND_STATS, scaled } from './lib/load.js';
import { checkAnswer, firstNumber, question } from './lib/questions.js';
import { summary } from './lib/summary.js';

const MODELS = (__ENV.MODELS || MODEL).split(',');
const THINKING_S = 1;

export const options = {
  scenarios: {
    users: {
      executor: 'ramping-vus',
      startVUs: 0,
      stages: [
        { duration: scaled(30), target: 20 },
        { duration: scaled(60), target: 50 },
        { duration: scaled(30), target: 100 },
        { duration: scaled(60), target: 100 },
        { duration: scaled(30), target: 0 },
      ],
      gracefulRampDown: '5s',
    },
  },
  thresholds: Object.assign({}, THRESHOLDS, ofEachModel()),
  summaryTrendStats: TREND_STATS,
};

export const handleSummary = summary('stages');

export function setup() {
  return firstNumber();
}

export default function (first) {
  const place = exec.scenario.iterationInTest;
  const model = MODELS[place % MODELS.length];
  const messages = [{ role: 'user', content: question(first + place) }];
  const answer = post('/call', { model, messages, max_tokens: 64 }, { tags: { model } });
  checkAnswer(answer, first + place, { model });
  check(answer, { 'says which model it was': (r) => header(r, 'x-genkan-model') !== '' }, { model });
  sleep(THINKING_S);
}

function ofEachModel() {
  const thresholds = MODELS.map((model) => [`http_req_duration{model:${model}}`, LATENCY]);
  return Object.fromEntries(thresholds);
}

"""Korean: the stems that particles and endings hang on."""

import re

from genkan.cache.lexicon import Lexicon, groups, longest, named, patterns, phrase_book, sides, valued, words

_VERBS = {  # how a stem begins in its forms -> the word for it; the longest beginning counts
    beginning: name
    for name, beginnings in (
        line.split(":")
        for line in """
변경:바꾸 바꿔 바꿀 바꾼 바꿨 바뀌 바뀐 바뀔 바뀜 고치려 변경 수정 교체
취소:취소 무르 무를
끄기:끄 꺼 껐 끌 끈다 비활성화 해제
켜기:켜 켤 켰 켠 활성화
열기:열어 여는 열려 열리 엽니 열었 열기 오픈
닫기:닫 폐점 마감
사기:사려 사고 사는 샀 살수 사야 사면 삽니 사요 구매 구입 매수
팔기:팔 판매 매도
보내기:보내 보낸 보낼 보냈 송금 이체 발송
받기:받 수령 수신
주기:주려 줄수
찾기:찾 검색 조회 확인
알기:알려 알고 알수 알아 압니 궁금 알 가르쳐
쓰기:쓰 써 쓸 썼 사용 이용
만들기:만드 만들 만든 개설 생성 신설
지우기:지우 지워 지울 지운 삭제 제거
올리기:올리 올려 올릴 올린 업로드 인상 높이 높일 상승
내리기:내리 내려 내릴 내린 다운로드 인하 낮추 낮출 하락
늘리기:늘리 늘려 늘릴 늘어 증가 연장 증액
줄이기:줄이 줄여 줄일 줄어 감소 단축 감액
넣기:넣 추가 입금 예치
빼기:빼 출금 인출 뽑
잃기:잃어 잃었 잃 분실
잊기:잊어 잊었 잊 까먹
걸리기:걸리 걸려 걸릴 걸린 소요
오기:오려 오는 옵니 오나 와요 오지 왔
늦:늦 지연
빠르:빠르 빨리 빠른 신속
싸:싸 싼 저렴
비싸:비싸 비싼
많:많
적:적은 적게 적어
크:크 큰 커
작:작 작은
먹기:먹 섭취 복용
마시기:마시 마셔 마실 마신
고장:고장 망가 부서 깨져 깨진 파손
되기:되 돼 된 될 됐 됩
하기:하 해 할 한다 했 합 함
있기:있
시작:시작 개시
끝:끝 종료 종결 완료
멈춤:멈추 멈춰 중단 중지 정지 그만 그만두 그만둘
느림:느리 느린 느려
가기:가려 가는 갈수 갑니 가고 가야 가나 가요 가면
내기:내려면 내나 내요 내는 내야 냅니
확대:확대
축소:축소
않:않
못:못
없:없
싶:싶
잠김:잠기 잠긴 잠겼 잠김
가입:가입 등록 신청
탈퇴:탈퇴 해지
로그인:로그인 접속
로그아웃:로그아웃
환불:환불 돌려받
반품:반품 돌려보내
교환:교환
결제:결제 지불 납부 계산
배송:배송 배달 택배
배송지:배송지 배송주소
좋:좋
나쁘:나쁘 나쁜
이기:이기 이겨 이긴
지기:졌 패배
빌리:빌리 빌려 빌릴 대출
갚:갚 상환
타기:타려 타고 타는 탑승
내리기2:하차
입기:입는 입고 착용
벗기:벗
잠금:잠그 잠가 잠글 잠금
풀기:풀려 풀어 풀고 풀수
문의:문의 연락 상담 여쭙 여쭤
설치:설치 깔 까는
""".strip().splitlines()
    )
    for beginning in beginnings.split()
}
_LONGEST_BEGINNING = max(map(len, _VERBS))
_PARTICLES = re.compile(
    r"(?:에게서|한테서|으로부터|로부터|에서부터|이라고|이라는|이라도|에서는|에서도|에서의|으로는|으로도|까지는|까지도|부터는|에게는|한테는"
    r"|에는|에도|에서|에게|한테|께서|으로|이랑|까지|부터|보다|처럼|만큼|마다|조차|밖에|이나|라도|라는|인가요|인지|이고|이며"
    r"|이에요|예요|입니다|이야|이죠|들은|들이|들을|은|는|이|가|을|를|의|에|로|와|과|도|만|랑|나|께|야)$"
)
_LIGHT_VERB = r"(?:하|해|할|한|했|합|함|되|돼|된|될|됐|됩|됨|시키|시켜|시킬|받으|받을|받는|받나|받고|당하|당했)\w*"
_ENDING = (
    r"(?:[었았였겠습]\w*|던|며|요|죠|세요|세여|셔\w*|고(?:요|는|도|자|싶\w*|있\w*|나)?|면(?:요|서|은|안\w*|되\w*|돼\w*)?"
    r"|[어아여](?:요|서|도|야\w*|주\w*|줘\w*|보\w*|봐\w*|버\w*|있\w*|라|지\w*|놓\w*)?|는(?:지\w*|데\w*|거\w*|건\w*|법)?|[은을](?:까\w*|지\w*|게\w*|수\w*)?|드(?:리|립|려|릴)\w*"
    r"|지(?:않\w*|못\w*|마\w*|말\w*|는|도|를|만|요)?|기(?:가|는|를|에|위\w*|만|도)?|나(?:요|면)?|니(?:다|까\w*)?|까(?:요|지)?"
    r"|게(?:요|도|끔)?|네요?|야(?:하\w*|해\w*|할\w*|되\w*|돼\w*|만|지)?|라(?:고|는|도|면)|다(?:고|는|면|가|음)?|도(?:록|요)?|서(?:요|도|는)?"
    r"|려(?:고\w*|면\w*|는\w*|요|서|도|야)?|시(?:는|나\w*|고|면|겠\w*|려\w*|던|지)\w*|주(?:세\w*|십\w*|실\w*|시\w*|는|나\w*|고|면|었\w*|겠\w*)"
    r"|보(?:고|면|는|려\w*|기)|버(?:렸\w*|린|려\w*|리\w*)|줘\w*|봐\w*|봅\w*|[져졌진질]\w*|[은는]가요?|ㅂ니\w*|싶\w*)"
)
_TAIL = re.compile(f"(?:{_LIGHT_VERB}|{_ENDING}|{_PARTICLES.pattern.rstrip('$')})?")
_SAID = re.compile(
    r"(?<=..)(?:나요|[은는]가요?|는지요?|는데요?|려면요?|려고요?|[어아]요|습니다|습니까|[었았였겠]\w*|네요|지만|도록|면|고|는|던|게|서|(?<!까)지)$"
)
_LIGHT = re.compile(f"(?<=..){_LIGHT_VERB}$")
_ROLES = (
    ("source", re.compile(r".(?:에서|부터|에게서|한테서|으로부터|로부터)(?:는|도|의)?$")),
    ("goal", re.compile(r".(?:로|으로|에게|한테|까지|께)(?:는|도)?$")),
    ("less", re.compile(r".보다(?:는|도)?$")),
    ("object", re.compile(r".[을를]$")),
    ("subject", re.compile(r".[은는이가]$")),
)


def stem(word: str) -> str:
    """The word without particles and endings; a known verb in any of its forms is one word."""
    for length in range(min(len(word), _LONGEST_BEGINNING), 0, -1):
        name = _VERBS.get(word[:length])
        if name is not None and _TAIL.fullmatch(word, length):
            return name
    light = _LIGHT.sub("", word)
    if light != word:
        return _VERBS.get(light, light)
    said = _SAID.sub("", word)
    return _without_particles(said) if len(said) > 1 else word


def _without_particles(word: str) -> str:
    """Down to two syllables, and as long as there is one: whether the last 이 is a particle is seen by nobody."""
    while len(word) > 2 or (len(word) == 2 and word[1] in "은는을를의에"):
        shorter = _PARTICLES.sub("", word)
        if shorter == word or not shorter:
            break
        word = shorter
    return _VERBS.get(word, word)


def role(word: str) -> str | None:
    """What the particle of a word makes of it: source, goal, less, object or subject."""
    for name, ending in _ROLES:
        if ending.search(word):
            return name
    return None


_NOT_NEGATING = re.compile(
    r"안내|안전|안녕|안경|안심|안과|안정|안개|안에|안으로|안쪽"
    r"|없이도|틀림없|어쩔 수 없|끊임없|할 수밖에 없|지 않[나을]\w*\?|지 않을까"
)
_NEGATION = re.compile(
    r"(?<!\w)(?:안|못)(?=\s|되|돼|된|될|됩|나|가|와|오|해|하|하는|열|켜|꺼|보|먹|받|쓰|써|들|뜨|떠|걸|맞)|지\s*(?:않|못|마|말|안)|않|없"
    r"|그만|아니|아닌|금지|불가|불능|못하|못해|못했|못한|비활성|미(?=성년|포함|지급|수령|배송|입금|납|사용)|실패|오류|에러"
)


_PHRASES = phrase_book("""
비밀번호: 비밀 번호, 패스워드, 암호, 비번
환불: 돈 돌려, 돈을 돌려
""")

_MEANING = groups(
    """
비밀번호, 패스워드, 암호, 비번, 패스
휴대폰, 핸드폰, 스마트폰, 휴대전화, 폰
전화번호, 연락처, 번호
이메일, 메일, 이메일주소
요금, 비용, 가격, 값, 수수료, 금액
가게, 매장, 점포, 상점
시간, 시각
회사, 기업
영화, 무비
사진, 이미지
자동차, 차, 승용차
방법, 법, 절차, 방식
이유, 원인, 까닭
기간, 시일
고객센터, 상담센터, 콜센터
앱, 어플, 애플리케이션, 어플리케이션
계정, 아이디, 어카운트
물건, 상품, 제품
영수증, 결제내역
쿠폰, 할인권, 할인쿠폰
증상, 증세
의사, 의사선생님
아이, 어린이, 어린아이, 애, 자녀
어른, 성인
남자, 남성
여자, 여성
월급, 급여, 연봉
""",
    stem,
)

_COUNTED = valued("달:mo 명:people 번:times 개:piece 시간:h 살:y 장:piece 잔:piece 병:piece 주:wk 배:x", str)
_NUMBERS = (
    valued(
        "한:1 두:2 세:3 네:4 다섯:5 여섯:6 일곱:7 여덟:8 아홉:9 열:10 스무:20 하나:1 둘:2 셋:3 넷:4 "
        "두번째:2nd 세번째:3rd 첫번째:1st 둘째:2nd 셋째:3rd 첫째:1st 반:1/2 절반:1/2",
        str,
    )
    | {  # 두 달 is written 두달 as often
        f"{number}{counter}": f"{value} {unit}"
        for number, value in zip("한두세네", "1234", strict=True)
        for counter, unit in _COUNTED.items()
    }
    | {"하루": "1 d", "이틀": "2 d", "사흘": "3 d", "열흘": "10 d", "보름": "15 d"}
)

LEXICON = Lexicon(
    name="ko",
    stem=stem,
    phrases=_PHRASES,
    phrase_words=longest(_PHRASES),
    meaning=_MEANING,
    filler=words(
        "하기 되기 있기 알기 방법 어떻게 어떤 무엇 무슨 뭐 뭘 뭔가 왜 언제 어디 어디서 어디에 어디로 "
        "누가 누구 누구에게 얼마 얼마나 몇 제 저 나 내 제가 저는 나는 내가 우리 저희 것 거 게 건 "
        "걸 수 좀 혹시 그 이 저기 그거 이거 때 경우 관련 대해 대해서 대한 위해 위한 그리고 그런데 "
        "근데 그럼 정도 어느 가능 필요 싶은데 싶어 싶습니다 싶어요 주세요 주실 주시 줘 줘요 부탁 "
        "부탁드려요 부탁드립니다 안녕하세요 감사합니다 싶은데요 해야 하나 하나요 하려면 되나요 있나요 있어 "
        "있어요 알려주세요 설명 이유 궁금합니다 궁금해요 건가요 무엇인가요 뭐예요 뭔가요 뭐야 어때 "
        "어떤가요 어떻게든 지 및 등 또는 요 나요 주나요 않 않나요 못 안 없 없나요 쓰기 보기 가요 "
        "문의 싶 시간 이후로 가능하기 주기 오기 궁금하 안내 주시겠어요 여부",
        stem,
    ),
    negation=_NEGATION,
    affirmed=_NOT_NEGATING,
    poles=sides(
        """
켜기, 잠금 | 끄기, 풀기
열기 | 닫기
사기 | 팔기
보내기 | 받기
올리기 | 내리기
늘리기 | 줄이기
넣기 | 빼기
시작 | 끝, 멈춤
가입, 설치 | 탈퇴, 취소, 지우기
로그인 | 로그아웃
빌리 | 갚
좋, 장점, 이점 | 나쁘, 단점
빠르, 당일, 조기 | 늦
싸 | 비싸
많, 최대, 최고, 한도 | 적, 최소, 최저
크 | 작
이기 | 지기
아이, 소아 | 어른, 노인, 부모님, 부모
확대 | 축소
결혼 | 이혼
입학 | 졸업
고혈압 | 저혈압
남자, 남편, 아들, 아버지, 아빠 | 여자, 아내, 딸, 어머니, 엄마
전 | 후
이전, 앞 | 이후, 뒤
국내, 내국인 | 해외, 국제, 외국인
무료 | 유료
온라인 | 오프라인
자동 | 수동
신규, 새 | 기존
왕복 | 편도
공개 | 비공개
신용카드 | 체크카드
오전, 아침 | 오후, 저녁
평일 | 주말
입기 | 벗기
입국 | 출국
퇴근 | 출근
입사 | 퇴사
입금 | 출금
임대인, 집주인 | 임차인, 세입자
개인 | 법인, 기업
상반기 | 하반기
위 | 아래
더위, 여름 | 추위, 겨울
허용, 승인 | 차단, 거절
타기 | 내리기2
환불 | 교환
""",
        _MEANING,
        stem,
    ),
    scope=named(
        """
all: 모든 전부 모두 전체 다 모조리
only: 오직 오로지 만
besides: 제외 빼고
another: 다른 남
again: 다시 재
each: 각 각각
instead: 대신
first: 첫 처음 최초
last: 마지막
during: 동안
before: 전
after: 후 다음
for-now: 일시 일시적 일시정지 일시중지 잠시 잠깐 임시
""",
        str,
    ),
    moments=words("오늘 지금 현재 내일 어제 요즘 방금 당장", stem),
    numbers=_NUMBERS,
    units=named(
        """
s: 초
min: 분
h: 시간
clock: 시
d: 일
wk: 주 주일
mo: 개월 달 월
y: 년 살 세
km: km 킬로미터
m: m 미터
cm: cm 센티 센티미터
kg: kg 킬로 킬로그램
g: g 그램
l: l 리터
krw: 원
10000krw: 만원 만
1000krw: 천원 천
usd: 달러 불
%: 퍼센트 프로 %
times: 번 회 차
people: 명 사람 인 분이
piece: 개 장 대 권 잔 병
gb: gb 기가
mb: mb 메가
""",
        str,
    ),
    dates=named(
        """
mon: 월요일
tue: 화요일
wed: 수요일
thu: 목요일
fri: 금요일
sat: 토요일
sun: 일요일
weekend: 주말
weekday: 평일
morning: 아침
am: 오전
pm: 오후
noon: 점심
evening: 저녁
night: 밤
dawn: 새벽
spring: 봄
summer: 여름
autumn: 가을
winter: 겨울
new-year: 설날 설
chuseok: 추석
""",
        str,
    ),
    joints={},
    asker=words("저를 저에게 저한테 저희를 저희에게 나를 날 나에게 나한테 제게 내게 우리를 우리에게", str),
    of=frozenset(),
    role=role,
    asks=patterns(
        r"""
howlong: 얼마나 (?:오래|걸|소요)|며칠|몇 ?(?:시간|분|일|주|개월|달|년)(?!에)|얼마 ?(?:동안|만에)|(?:소요
|처리) ?(?:시간|기간)|기간[은이]
howoften: 몇 ?(?:번|회)|얼마나 (?:자주)
when: 언제|몇 ?시(?!간)|며칠날|무슨 요일|어느 날
quantity: 얼마|몇|(?:요금|비용|가격|수수료|금액)[이은을는가]? ?(?:어떻게|\?|$|알려|궁금)
where: 어디|어느 ?(?:곳|지점|나라|도시|역)|무슨 역
who: 누구|누가|뉘
why: \b왜|이유|원인|까닭|어째서
how: 어떻게|어떡|방법|절차|하려면|려면|법을?(?: |$|\?)|어찌
which: 어느|어떤
yesno: (?:나요|까요|까|가요|니|냐|죠|지요|어요|아요|해요|돼요|되요|나|어|해|돼
|음)\s*[?？]?\s*$(?<!주세요)(?<!알려줘)(?<!뭐예요)(?<!인가요\?)(?<!뭔가요\?)(?<!무엇인가요)(?<!뭔가요)
what: 무엇|무슨|뭐|뭘|뭔
"""
    ),
)

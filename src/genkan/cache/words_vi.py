"""Vietnamese, as it is written with its marks."""

import re

from genkan.cache.lexicon import (
    Lexicon,
    groups,
    longest,
    named,
    no_role,
    patterns,
    phrase_book,
    same,
    sides,
    valued,
    words,
)

#: In a question the last không or chưa asks; anywhere else it denies.
_AT_THE_END = r"\s*(?:(?:ạ|vậy|thế|nhỉ|ta|shop|ad|bạn|anh|chị|em|hả|à|nha|nhé|rồi)\b\s*)*(?:[,.?!;]|$)"

_PHRASES = phrase_book("""
mật_khẩu: mật khẩu, mật mã, pass word, pass
tài_khoản: tài khoản, account, acc
đổi: thay đổi, chỉnh sửa, cập nhật, sửa đổi, thay
đăng_nhập: đăng nhập, login, log in
đăng_xuất: đăng xuất, logout, thoát tài khoản, thoát khỏi tài khoản
đăng_ký: đăng ký, đăng kí, ghi danh
hủy: hủy bỏ, huỷ bỏ
hủy_đăng_ký: hủy đăng ký, hủy đăng kí, ngừng đăng ký
đơn_hàng: đơn hàng, đơn đặt hàng, đơn mua
giao_hàng: giao hàng, vận chuyển, chuyển hàng, ship hàng, ship
phí: chi phí, mức phí, phí tổn, cước phí
giá: giá cả, giá tiền, giá bán, bao nhiêu tiền, giá bao nhiêu, nhiêu tiền, hết bao nhiêu tiền, giá là bao nhiêu
hoàn_tiền: hoàn tiền, trả lại tiền, hoàn lại tiền, hoàn trả tiền, lấy lại tiền, nhận lại tiền
trả_hàng: trả hàng, trả lại hàng, hoàn hàng, trả lại sản phẩm, hoàn trả hàng
thanh_toán: thanh toán, chi trả, trả tiền
nạp_tiền: nạp tiền, gửi tiền vào, nạp thêm tiền
rút_tiền: rút tiền
chuyển_tiền: chuyển tiền, chuyển khoản
bật: bật lên, kích hoạt, mở lên
tắt: tắt đi, vô hiệu hóa, hủy kích hoạt
tải_lên: tải lên, đăng tải, up lên, upload
tải_về: tải về, tải xuống, download
khóa: khóa lại
mở_khóa: mở khóa, mở lại
cài_đặt: cài đặt, thiết lập, cài
gỡ: gỡ cài đặt, gỡ bỏ
xóa: xóa bỏ, xóa đi, loại bỏ
tăng: gia tăng, tăng lên, tăng thêm, nâng lên, nâng cao
giảm: giảm bớt, giảm đi, hạ thấp, giảm xuống
mua: đặt mua, mua sắm
giờ_làm_việc: giờ làm việc, giờ mở cửa, thời gian làm việc, giờ hoạt động, thời gian mở cửa
điện_thoại: điện thoại, số điện thoại, di động, điện thoại di động, số di động
địa_chỉ: địa chỉ, nơi ở, nơi nhận
liên_hệ: liên hệ, liên lạc
hỗ_trợ: hỗ trợ, trợ giúp
khách_hàng: khách hàng, khách
nhân_viên: nhân viên
hóa_đơn: hóa đơn, biên lai
bảo_hành: bảo hành
gia_hạn: gia hạn, kéo dài thời hạn
trước: trước khi, trước đó, trước lúc
sau: sau khi, sau đó, sau lúc
trong_khi: trong khi, trong lúc
hỏng: bị hỏng, bị lỗi, hư hỏng, bị hư, trục trặc, gặp lỗi
không_thể: không thể, không được phép, chẳng thể, không tài nào
không_khí: không khí
không_gian: không gian
không_dây: không dây
ngân_hàng: ngân hàng, nhà băng
cửa_hàng: cửa hàng, cửa hiệu, tiệm
sân_bay: sân bay, phi trường
máy_bay: máy bay, phi cơ
bệnh_viện: bệnh viện, nhà thương
ô_tô: ô tô, xe hơi, xe ô tô
xe_máy: xe máy, xe gắn máy
trẻ_em: trẻ em, trẻ con, em bé, trẻ nhỏ, con nít
người_lớn: người lớn, người trưởng thành
khuyến_mãi: khuyến mãi, khuyến mại, ưu đãi
quốc_tế: quốc tế, ngoài nước, nước ngoài
giải_nén: giải nén
phóng_to: phóng to
thu_nhỏ: thu nhỏ
kết_hôn: kết hôn, cưới
ly_hôn: ly hôn, ly dị, li dị
cha_mẹ: bố mẹ, cha mẹ, ba mẹ, phụ huynh
người_già: người cao tuổi, người già, người lớn tuổi
con_cái: con tôi, con em, con mình, con cái
nội_thành: nội thành
ngoại_thành: ngoại thành
thành_phố: thành phố
thành_viên: thành viên
thành_công: thành công
hoàn_thành: hoàn thành
nội_địa: nội địa, trong nước
hôm_nay: hôm nay, bữa nay
hôm_qua: hôm qua
ngày_mai: ngày mai
bây_giờ: bây giờ, hiện giờ, lúc này, ngay bây giờ
hiện_tại: hiện tại, hiện nay
chủ_nhật: chủ nhật
thứ_2: thứ hai, thứ 2
thứ_3: thứ ba, thứ 3
thứ_4: thứ tư, thứ 4
thứ_5: thứ năm, thứ 5
thứ_6: thứ sáu, thứ 6
thứ_7: thứ bảy, thứ 7
cuối_tuần: cuối tuần
tất_cả: tất cả, toàn bộ, mọi
duy_nhất: duy nhất
ngoại_trừ: ngoại trừ, trừ ra
thay_vì: thay vì
mỗi: mỗi một, từng
khác: cái khác, người khác
lần_đầu: lần đầu, lần đầu tiên, đầu tiên
cuối_cùng: cuối cùng, sau cùng
tối_đa: tối đa, nhiều nhất, cao nhất, lớn nhất
tối_thiểu: tối thiểu, ít nhất, thấp nhất, nhỏ nhất
miễn_phí: miễn phí, không mất phí, không tốn phí, free
trực_tuyến: trực tuyến, online, qua mạng, trên mạng
trực_tiếp: trực tiếp, tại quầy, tại cửa hàng
tự_động: tự động
thủ_công: thủ công
nam_giới: nam giới, đàn ông, con trai
phụ_nữ: phụ nữ, nữ giới, đàn bà, con gái
lợi_ích: lợi ích, ưu điểm, mặt lợi
tác_hại: tác hại, nhược điểm, mặt hại
nguyên_nhân: nguyên nhân
bắt_đầu: bắt đầu, khởi động
kết_thúc: kết thúc, chấm dứt
tạm_dừng: tạm dừng, tạm ngưng
số_dư: số dư
lãi_suất: lãi suất
giấy_tờ: giấy tờ, hồ sơ, thủ tục
vay_tiền: vay tiền, vay vốn
cho_vay: cho vay
thẻ_tín_dụng: thẻ tín dụng, credit card
thẻ_ghi_nợ: thẻ ghi nợ, debit card
mã_giảm_giá: mã giảm giá, voucher, phiếu giảm giá, mã khuyến mãi
giới_thiệu: giới thiệu
bao_lâu: bao lâu, mất bao lâu, trong bao lâu, hết bao lâu
bao_giờ: bao giờ
bao_nhiêu: bao nhiêu, mất bao nhiêu, hết bao nhiêu, tốn bao nhiêu
quên: quên mất, lỡ quên, bị quên
hướng_dẫn: hướng dẫn, chỉ mình, chỉ tôi, chỉ em, chỉ giúp, chỉ cho, chỉ dẫn
lý_do: lý do, lí do
công_ty: công ty, quý công ty
cho_thuê: cho thuê
đô_la: đô la, đô mỹ
mất: đánh mất, làm mất, thất lạc, bị mất
kiểm_tra: kiểm tra, tra cứu, theo dõi, xem
""")

_MEANING = groups(
    """
hủy, huỷ
khóa, khoá
xóa, xoá
mất, mất
gửi, gởi
nhận, lấy
sửa, khắc_phục
email, mail
wifi, wi-fi
app, ứng_dụng
lỗi, hỏng
nhanh, mau, lẹ
to, lớn
trẻ, bé
""",
    same,
)

_NUMBERS = valued(
    "hai:2 ba:3 bốn:4 sáu:6 bảy:7 bẩy:7 tám:8 chín:9 mười:10 chục:10 "
    "trăm:100 nghìn:1000 ngàn:1000 triệu:1000000 tỷ:1000000000 "
    "tỉ:1000000000 nửa:1/2 gấp_đôi:2x rưỡi:+1/2 k:1000 tr:1000000",
    same,
)

LEXICON = Lexicon(
    name="vi",
    stem=same,
    phrases=_PHRASES,
    phrase_words=longest(_PHRASES),
    meaning=_MEANING,
    filler=words(
        "tôi mình em anh chị bạn ad admin shop ơi à ạ nhé nhỉ vậy thế hả hở ha nha với cho của là thì mà và hay hoặc "
        "có không chưa được bị đang đã sẽ rồi vẫn cũng này kia đó đây ấy cái chiếc con những các một gì nào sao ai đâu "
        "bao nhiêu mấy khi lúc giờ như làm cách phải cần muốn để ở tại trong ngoài trên về từ đến ra vào nếu vì do bởi "
        "xin vui lòng hỏi biết chỉ hướng dẫn giúp hãy nên thể ta chúng chúng_ta chúng_tôi người bằng theo tới qua lại "
        "đi lên xuống thưa dạ vâng chào việc cứ mới tiến hành thực hiện nói rõ giải thích tìm hiểu bao_lâu "
        "bao_giờ bao_nhiêu không_thể hướng_dẫn lý_do khoảng tầm cụ cụ_thể ntn thao "
        "tác bước quy trình thủ_tục kiểu đâu_đó nữa lâu rằng nhờ định chút xíu luôn",
        same,
    )
    - words("chỉ bao ngoài người", same),
    negation=re.compile(
        r"\b(?:(?:không|chưa|ko|chẳng|chả)(?!"
        + _AT_THE_END
        + r")|đừng|chớ|cấm|ngừng|ngưng|không thể(?="
        + _AT_THE_END
        + "))"
    ),
    affirmed=re.compile(
        r"(?:hãng|ngành|vé|cảng|đường) hàng không|không khí|không gian|không dây|không quân"
        r"|không những|không chỉ|hay không|hay chưa"
    ),
    poles=sides(
        """
bật, mở, mở_khóa | tắt, đóng, khóa, chặn
mua | bán
tăng, nâng | giảm, hạ
thêm, đăng_ký, cài_đặt, tạo | bớt, hủy, hủy_đăng_ký, gỡ, xóa
đăng_nhập | đăng_xuất
gửi, nạp_tiền | nhận, rút_tiền
tải_lên | tải_về
trước | sau
tối_đa | tối_thiểu
nhiều, hơn | ít, kém
nhanh, sớm | chậm, muộn, trễ
tốt, lợi_ích, lợi | xấu, tác_hại, hại
rẻ | đắt, mắc
nóng | lạnh
thắng | thua
trẻ_em | người_lớn, người_già
nam_giới, nam, chồng, bố, cha | phụ_nữ, nữ, vợ, mẹ
quốc_tế | nội_địa
nội_thành | ngoại_thành
miễn_phí | phí
trực_tuyến | trực_tiếp
tự_động | thủ_công
bắt_đầu | kết_thúc, dừng, tạm_dừng
vay_tiền, vay | cho_vay
mới | cũ
lần_đầu | cuối_cùng
to | nhỏ
cao | thấp
dài | ngắn
nặng | nhẹ
thẻ_tín_dụng | thẻ_ghi_nợ
một_chiều | khứ_hồi
công_khai | riêng_tư
sáng | tối
nén | giải_nén
phóng_to | thu_nhỏ
kết_hôn | ly_hôn
cha_mẹ | con_cái
lên | xuống, về
nhập | xuất
thuê | cho_thuê
cho_phép | cấm
hộ_chiếu | căn_cước
chấp_nhận, duyệt | từ_chối
""",
        _MEANING,
        same,
    ),
    scope=named(
        """
all: tất_cả mỗi
only: chỉ duy_nhất
besides: ngoại_trừ trừ ngoài
another: khác
instead: thay_vì
again: lần_nữa
during: trong_khi
for-now: tạm
""",
        same,
    ),
    moments=words("hôm_nay hôm_qua ngày_mai bây_giờ hiện_tại", same),
    numbers=_NUMBERS,
    units=named(
        """
s: giây
min: phút
h: giờ tiếng
d: ngày
wk: tuần
mo: tháng
y: năm tuổi
km: km
m: mét m
cm: cm
kg: kg ký kí cân
g: gam gram g
l: lít
vnd: đồng vnd vnđ đ
usd: đô usd $
1000: nghìn ngàn k
1000000: triệu tr
1000000000: tỷ tỉ
%: phần_trăm %
mb: mb
gb: gb
times: lần
people: người
piece: cái chiếc
""",
        same,
    ),
    dates=named(
        """
mon: thứ_2
tue: thứ_3
wed: thứ_4
thu: thứ_5
fri: thứ_6
sat: thứ_7
sun: chủ_nhật
weekend: cuối_tuần
tet: tết
morning: sáng
noon: trưa
afternoon: chiều
evening: tối
night: đêm khuya
""",
        same,
    ),
    joints={
        "sang": ("source", "goal"),
        "thành": ("source", "goal"),
        "đến": ("source", "goal"),
        "tới": ("source", "goal"),
        "về": ("source", "goal"),
        "ra": ("source", "goal"),
        "cho": (None, "goal"),
        "từ": (None, "source"),
        "hơn": ("more", "less"),
        "trước": ("earlier", "later"),
        "sau": ("later", "earlier"),
    },
    asker=frozenset({"tôi", "mình", "em", "tớ", "tao", "chúng_tôi", "chúng_mình"}),
    of=frozenset({"của"}),
    role=no_role,
    asks=patterns(
        r"""
howlong: bao lâu|mất (?:mấy|bao nhiêu) (?:phút|giờ|tiếng|ngày|tuần|tháng|năm)|(?:mấy|bao nhiêu) (?:phút|tiếng
|ngày|tuần|tháng|năm)
howoften: bao lâu một lần|mấy lần|bao nhiêu lần
when: khi nào|bao giờ|lúc nào|chừng nào|mấy giờ|hôm nào|ngày nào|ngày mấy|thời điểm nào|thứ mấy
quantity: bao nhiêu|\bmấy\b|nhiêu tiền|(?:phí|giá|chi phí)(?: \w+){0,4} (?:thế nào|ra sao|là gì)
where: ở đâu|chỗ nào|nơi nào|tại đâu|đâu(?: vậy| thế| ạ)*\W*$|đến đâu|địa điểm nào
why: tại sao|vì sao|sao (?:lại|mà|không|chưa|tôi|mình|em|app|máy)|nguyên nhân|lý do|lí do|cớ gì|do đâu|^sao\b
how: như thế nào|thế nào|làm sao|làm cách nào|cách nào|bằng cách|\bcách\b|ra sao|ntn|hướng dẫn|các bước
|quy trình|kiểu gì
who: \bai\b|người nào
which: (?:cái|loại|gói|hãng|nước|dòng|mẫu) nào
yesno: (?:không|chưa|ko|hông|hả|à|được chứ|phải không)(?: ạ| vậy| thế| nhỉ| shop| ad| bạn| em| anh| chị)*\W*$|\bliệu\b
what: \bgì\b|\bnào\b
"""
    ),
)
